"""Lanes take turns in a step, as the policy ranks them."""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping

from octavo.scheduler.policy import Lane, SchedulingPolicy
from octavo.scheduler.step import Step


def take_turns(step: Step, policy: SchedulingPolicy, lanes: Mapping[Lane, Iterator[None]]) -> None:
    """Advance the lane of the least rank, and so on until all are at their end; of equals, the one named first.

    O(turns · log lanes).
    """
    granted: Counter[Lane] = Counter()
    order = [(policy.rank(lane, 0), index, lane) for index, lane in enumerate(lanes)]
    heapq.heapify(order)
    while order:
        _, index, lane = order[0]
        budget = step.budget
        try:
            next(lanes[lane])
        except StopIteration:
            heapq.heappop(order)
        else:
            granted[lane] += budget - step.budget
            heapq.heapreplace(order, (policy.rank(lane, granted[lane]), index, lane))
