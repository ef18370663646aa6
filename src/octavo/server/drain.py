"""How the server ends: on a signal, when accepted requests have finished; or because its engine has died."""

import asyncio
import logging
import signal
import time

from octavo.core.errors import EngineDeadError
from octavo.engine.liveness import EngineState
from octavo.server.context import ServerContext
from octavo.server.listener import LAST_WORDS_S, HttpServer
from octavo.server.startup import Console
from octavo.server.systemd import STOPPING, tell_systemd

logger = logging.getLogger(__name__)

DEAD_GRACE_S = 5.0
"""After the engine has died: how long clients and probes are still told so, before the server ends too."""
_URGENT_LAST_WORDS_S = 0.5
_POLL_S = 0.02


class StopSignals:
    """SIGINT and SIGTERM: the first asks the server to end, the second to end at once."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.is_urgent = False

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        self.is_urgent = self.is_asked.is_set()
        self.is_asked.set()


async def serve_until_stopped(context: ServerContext, http: HttpServer, stop: StopSignals, console: Console) -> None:
    """Answer requests until `stop`; then let those inside finish, for as long as the options allow.

    Raises `EngineDeadError` where the engine died meanwhile: a server without one is of no use, and whoever
    started it may start it again.
    """
    stopping = asyncio.create_task(stop.is_asked.wait())
    dying = asyncio.create_task(context.engine.wait_until_dead())
    probing = asyncio.create_task(context.probe.run())
    try:
        await asyncio.wait({stopping, dying}, return_when=asyncio.FIRST_COMPLETED)
        tell_systemd(STOPPING)
        if dying.done():
            await asyncio.wait({stopping}, timeout=DEAD_GRACE_S)
        else:
            await _let_finish(context, stop, console)
    finally:
        is_dead = context.engine.state is EngineState.DEAD
        await context.engine.shutdown()  # what is still open ends with an error
        await http.stop(last_words_s=_URGENT_LAST_WORDS_S if stop.is_urgent else LAST_WORDS_S)
        for task in (stopping, dying, probing):
            task.cancel()
    if is_dead:
        raise EngineDeadError("the engine has died, and the server has ended with it; see the log for why, and restart")


async def _let_finish(context: ServerContext, stop: StopSignals, console: Console) -> None:
    """Refuse new requests; return when those inside have finished, or their time is over."""
    gate, limit_s = context.gate, context.config.drain_timeout_s
    if gate.num_inside:
        console.say(f"Ending: {_requests(gate.num_inside)} may finish for {limit_s:g} s; Ctrl-C ends at once.")
    gate.is_closed = True
    deadline_s = time.monotonic() + limit_s
    while gate.num_inside and not stop.is_urgent and time.monotonic() < deadline_s:
        await asyncio.sleep(_POLL_S)
    if gate.num_inside:
        logger.warning("cut off: %s", _requests(gate.num_inside))


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
