"""Scheduling policies: who is served first, and who gives way when blocks run out.

Requests stand in *lanes*. Those of one lane are equals, served oldest first, and share what a step leaves for
their lane. The lane of the least rank has its turn next; a turn ends with an admission, and ranks may have
changed by then.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from octavo.core.request import Request

Lane = int | str


class SchedulingPolicy(Protocol):
    """The plug point. One object serves one scheduler."""

    def lane(self, request: Request) -> Lane:
        """Where the request stands, waiting and running: constant."""
        ...

    def observe(self, lanes: Iterable[Lane]) -> None:
        """Take note of the lanes that have prompts to compute, before a step asks for their ranks."""
        ...

    def rank(self, lane: Lane, num_granted: int) -> int:
        """Where the lane stands that was granted so many tokens in this step; the least is served next."""
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

    def observe(self, lanes: Iterable[Lane]) -> None:
        pass

    def rank(self, lane: Lane, num_granted: int) -> int:
        return 0

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        pass

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: request.arrival_order)


class Priority:
    """A lane a `priority`, the smallest first; the newest of the lowest priority gives way."""

    def lane(self, request: Request) -> Lane:
        return request.priority

    def observe(self, lanes: Iterable[Lane]) -> None:
        pass

    def rank(self, lane: Lane, num_granted: int) -> int:
        return int(lane)

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        pass

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: (request.priority, request.arrival_order))


class FairShare:
    """A lane a client, the one that was given least first; the newest of the one given most gives way.

    The virtual token counter of Sheng et al. 2024 (Fairness in Serving Large Language Models, arXiv
    2401.00588, section 4): a token computed counts 1 and a token sampled 1 more, so that a prompt
    token costs 1 and an output token 2, whether or not other requests of its client wait. A client
    that comes back is lifted to the floor, the least counter of those that had prompts all the while;
    or, where nobody had, of those that had them last. So idling earns no credit, and what was given
    beyond the floor stays owed. Deviations: tokens are charged as they are computed, chunk by chunk,
    so what the prefix cache spares is free and what a preemption costs is charged again; a client
    counts as backlogged while a prompt of its waits *or is being computed*; one that only decodes is
    lifted with the floor. O(clients) a step that has prompts.
    """

    def __init__(self) -> None:
        self._served: dict[Lane, int] = {}
        """Those above the floor; everyone else is at it."""
        self._floor = 0
        self._backlogged: frozenset[Lane] = frozenset()
        """Those that had prompts when last anybody had."""

    def lane(self, request: Request) -> Lane:
        return request.client

    def observe(self, lanes: Iterable[Lane]) -> None:
        previous, self._backlogged = self._backlogged, frozenset(lanes)
        floor = min(map(self._counter, previous & self._backlogged or previous), default=0)
        if floor > self._floor:
            self._floor = floor
            self._served = {client: served for client, served in self._served.items() if served > floor}

    def rank(self, lane: Lane, num_granted: int) -> int:
        return self._counter(lane) + num_granted

    def charge(self, num_tokens: Mapping[Request, int]) -> None:
        for request, count in num_tokens.items():
            is_sampled = count == request.num_uncomputed_tokens
            self._served[request.client] = self._counter(request.client) + count + is_sampled

    def victim(self, running: Iterable[Request]) -> Request:
        return max(running, key=lambda request: (self._counter(request.client), request.arrival_order))

    def _counter(self, client: Lane) -> int:
        return max(self._floor, self._served.get(client, 0))


POLICIES: Mapping[str, Callable[[], SchedulingPolicy]] = MappingProxyType(
    {"fcfs": FirstComeFirstServed, "priority": Priority, "fair": FairShare}
)
