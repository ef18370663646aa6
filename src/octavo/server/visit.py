"""A request on its way through the server: whose it is, until when it may take, what it holds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from octavo.config.server_config import MOST_SECONDS, ServerConfig
from octavo.core.errors import DeadlineExceededError, InvalidRequestError
from octavo.server.disconnect import unless

if TYPE_CHECKING:
    from octavo.engine.admission import Places
    from octavo.engine.async_engine import AsyncEngine

_SCOPE_KEY = "octavo.visit"
Result = TypeVar("Result")


class Visit:
    """Begins when the request arrives, and ends with the last byte of its answer; used on one event loop."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.places: Places | None = None
        self._begin_s = asyncio.get_running_loop().time()
        self._timeout_s: float | None = None
        self._has_asked = False
        """For that deadline; it is the server's otherwise."""
        self._may_ask_more = False

    def limit_time(self, config: ServerConfig, asked_s: float | None) -> None:
        """The deadline: as the request asks, at most as the options allow. Raises `InvalidRequestError`."""
        limit_s = config.request_timeout
        most_s = MOST_SECONDS if limit_s is None else limit_s
        if asked_s is not None and not asked_s > 0.0:
            raise InvalidRequestError(f"timeout={asked_s:g} is not above 0; raise it, or leave it out", param="timeout")
        if asked_s is not None and asked_s > most_s:
            most = f"{most_s:g} s" if limit_s is None else f"the {most_s:g} s of this server's --request-timeout"
            raise InvalidRequestError(
                f"timeout={asked_s:g} is more than {most}; lower it, or leave it out", param="timeout"
            )
        self._timeout_s = limit_s if asked_s is None else asked_s
        self._has_asked = asked_s is not None
        self._may_ask_more = asked_s is not None and asked_s < most_s

    def knock(self, engine: "AsyncEngine") -> None:
        """Raises what `enter` would raise for one sequence: a full server does not even read what it is asked."""
        engine.check_open()
        engine.admission.check(1, self.client)

    def enter(self, engine: "AsyncEngine", num_seqs: int) -> None:
        """Take a place in the queue for each sequence, before any work is done for them.

        Raises what `AsyncEngine.check_open` raises, `QueueFullError` or `InvalidRequestError`.
        """
        engine.check_open()
        self.places = engine.admission.take(num_seqs, self.client)

    def leave(self) -> None:
        """Give back what is still held. Idempotent."""
        if self.places is not None:
            self.places.close()

    async def in_time(self, work: Awaitable[Result]) -> Result:
        """The result of `work`, cancelled at the deadline. Raises `DeadlineExceededError`, and what `work` raises."""
        if self._timeout_s is None:
            return await work
        left_s = self._begin_s + self._timeout_s - asyncio.get_running_loop().time()
        return await unless(work, asyncio.sleep(left_s, self._expired()))

    def at_deadline(self, expire: Callable[[DeadlineExceededError], None]) -> "asyncio.TimerHandle | None":
        """Have `expire` called at the deadline, unless the handle is cancelled; None where there is no deadline."""
        if self._timeout_s is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_at(self._begin_s + self._timeout_s, lambda: expire(self._expired()))

    def _expired(self) -> DeadlineExceededError:
        late = f"the request did not finish within {self._timeout_s:g} s"
        if self._has_asked:
            more = ", or raise timeout" if self._may_ask_more else ""
            return DeadlineExceededError(f"{late}, its timeout; ask for less{more}", param="timeout")
        return DeadlineExceededError(f"{late}, this server's --request-timeout; ask for less")


def attach_visit(scope: Scope, visit: Visit) -> None:
    scope[_SCOPE_KEY] = visit


def visit_of(http: Request) -> Visit:
    visit: Visit = http.scope[_SCOPE_KEY]
    return visit
