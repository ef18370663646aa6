"""When a request that waits may join those that run: at every step, or once all of a batch have ended."""

import itertools
from typing import Protocol

from octavo.core.request import Request
from octavo.scheduler.waiting_queue import WaitingQueue


class Batching(Protocol):
    def begin_step(self, waiting: WaitingQueue, *, is_idle: bool) -> None:
        """Told before a step admits anyone; `is_idle` where nothing runs."""
        ...

    def may_join(self, request: Request) -> bool: ...


class ContinuousBatching:
    """At every step."""

    def begin_step(self, waiting: WaitingQueue, *, is_idle: bool) -> None:
        pass

    def may_join(self, request: Request) -> bool:
        return True


class StaticBatching:
    """With its batch, which is named when the last one has run to its end; the baseline to compare with."""

    def __init__(self, max_num_seqs: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._members: set[str] = set()

    def begin_step(self, waiting: WaitingQueue, *, is_idle: bool) -> None:
        if not is_idle:
            return
        members = [request.id for request in itertools.islice(waiting.in_order(), self._max_num_seqs)]
        if members and members[0] not in self._members:  # else all that are left of a batch were preempted
            self._members = set(members)

    def may_join(self, request: Request) -> bool:
        return request.id in self._members
