"""The requests that wait, each in its lane, oldest first."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from octavo.core.request import Request
from octavo.scheduler.policy import Lane, SchedulingPolicy


@dataclass(slots=True)
class _Line:
    """Those of one lane. The heap may still name requests that were removed."""

    heap: list[tuple[int, str]] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)

    def first(self) -> Request:
        while self.heap[0][1] not in self.requests:
            heapq.heappop(self.heap)
        return self.requests[self.heap[0][1]]


class WaitingQueue:
    """A priority queue a lane, with removal: push and pop O(log n), peek and remove O(1) amortised."""

    def __init__(self, policy: SchedulingPolicy) -> None:
        self._policy = policy
        self._lines: dict[Lane, _Line] = {}

    def __len__(self) -> int:
        return sum(len(line.requests) for line in self._lines.values())

    def __contains__(self, request: Request) -> bool:
        line = self._lines.get(self._policy.lane(request))
        return line is not None and request.id in line.requests

    def lanes(self) -> list[Lane]:
        """Those in which someone waits."""
        return list(self._lines)

    def num_waiting(self, lane: Lane) -> int:
        line = self._lines.get(lane)
        return 0 if line is None else len(line.requests)

    def num_before(self, request: Request) -> int:
        """How many wait in lanes that are served before the request's. O(lanes)."""
        rank = self._policy.rank(self._policy.lane(request), 0)
        return sum(len(line.requests) for lane, line in self._lines.items() if self._policy.rank(lane, 0) < rank)

    def in_order(self) -> Iterator[Request]:
        """All that wait, lane by lane as the policy ranks them now. O(n log n)."""
        for lane in sorted(self._lines, key=lambda lane: self._policy.rank(lane, 0)):
            yield from sorted(self._lines[lane].requests.values(), key=lambda request: request.arrival_order)

    def push(self, request: Request) -> None:
        line = self._lines.setdefault(self._policy.lane(request), _Line())
        assert request.id not in line.requests
        line.requests[request.id] = request
        heapq.heappush(line.heap, (request.arrival_order, request.id))

    def peek(self, lane: Lane) -> Request:
        return self._lines[lane].first()

    def remove(self, request: Request) -> None:
        lane = self._policy.lane(request)
        line = self._lines[lane]
        del line.requests[request.id]
        if not line.requests:
            del self._lines[lane]
