"""Scheduling policies: who is served first, and who gives way when blocks run out."""

from collections.abc import Iterable
from typing import Protocol

from octavo.core.request import Request


class SchedulingPolicy(Protocol):
    """The plug point: a total order of requests, smaller served first."""

    def order(self, request: Request) -> tuple[int, ...]:
        """The request's rank; constant while it waits."""
        ...

    def victim(self, running: Iterable[Request]) -> Request:
        """The running request to preempt."""
        ...


class FirstComeFirstServed:
    """By arrival; the newest gives way."""

    def order(self, request: Request) -> tuple[int, ...]:
        return (request.arrival_order,)

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=self.order)


class Priority(FirstComeFirstServed):
    """By `priority` (smaller first), then arrival; the newest of the lowest priority gives way."""

    def order(self, request: Request) -> tuple[int, ...]:
        return (request.priority, request.arrival_order)


POLICIES: dict[str, type[FirstComeFirstServed]] = {"fcfs": FirstComeFirstServed, "priority": Priority}
