"""Scheduling policies: who is served first, and who gives way when blocks run out.

Requests stand in *lanes*. Lanes are served one after the other, in the policy's order; the requests of
one lane are equals, served oldest first, and share what a step leaves for their lane.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from octavo.core.request import Request

Lane = int | str


class SchedulingPolicy(Protocol):
    """The plug point. One object serves one scheduler."""

    def lane(self, request: Request) -> Lane:
        """Where the request stands, waiting and running: constant."""
        ...

    def in_order(self, lanes: Iterable[Lane]) -> list[Lane]:
        """The lanes that have prompts to compute, first served first. Asked once a step."""
        ...

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        """Take note of what a step computes of each request."""
        ...

    def victim(self, running: Iterable[Request]) -> Request:
        """The running request to preempt."""
        ...


class FirstComeFirstServed:
    """One lane: by arrival; the newest gives way."""

    def lane(self, request: Request) -> Lane:
        return 0

    def in_order(self, lanes: Iterable[Lane]) -> list[Lane]:
        return list(lanes)

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        pass

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: request.arrival_order)


class Priority(FirstComeFirstServed):
    """A lane a `priority`, the smallest first; the newest of the lowest priority gives way."""

    def lane(self, request: Request) -> Lane:
        return request.priority

    def in_order(self, lanes: Iterable[Lane]) -> list[Lane]:
        return sorted(lanes, key=int)

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: (request.priority, request.arrival_order))


class FairShare(FirstComeFirstServed):
    """A lane a client, the one that was given least first; the newest of the one given most gives way.

    The virtual token counter of Sheng et al. 2024 (Fairness in Serving Large Language Models, arXiv
    2401.00588, section 4): a token computed counts 1 and a token sampled 1 more, so that a prompt
    token costs 1 and an output token 2. A client that comes back is lifted to the least counter of
    those that stayed, so idling earns no credit. Deviations: tokens are charged as they are
    computed, chunk by chunk, so what the prefix cache spares is free and what a preemption costs is
    charged again; a client counts as backlogged while a prompt of its waits *or is being computed*;
    when nobody stays, all counters start anew. O(clients · log clients) a step.
    """

    def __init__(self) -> None:
        self._served: dict[Lane, int] = {}
        self._backlogged: frozenset[Lane] = frozenset()

    def lane(self, request: Request) -> Lane:
        return request.client

    def in_order(self, lanes: Iterable[Lane]) -> list[Lane]:
        previous, self._backlogged = self._backlogged, frozenset(lanes)
        stayed = previous & self._backlogged
        if not stayed:
            self._served.clear()
        floor = min((self._served.get(client, 0) for client in stayed), default=0)
        above = {client: served for client, served in self._served.items() if served > floor}
        self._served = dict.fromkeys(self._backlogged, floor) | above
        return sorted(lanes, key=lambda client: (self._served[client], client in previous))

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        for request, count in num_tokens.items():
            is_sampled = count == request.num_uncomputed_tokens
            self._served[request.client] = self._served.get(request.client, 0) + count + is_sampled

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: (self._served.get(request.client, 0), request.arrival_order))


POLICIES: dict[str, type[FirstComeFirstServed]] = {
    "fcfs": FirstComeFirstServed,
    "priority": Priority,
    "fair": FairShare,
}
