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
    beside = [
        asyncio.create_task(context.probe.run(), name="the event loop's probe"),
        asyncio.create_task(context.live.run(), name="the dashboard"),
    ]
    for life in beside:
        life.add_done_callback(_log_failure)
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
        context.live.viewers.close()
        await http.stop(last_words_s=_URGENT_LAST_WORDS_S if stop.is_urgent else LAST_WORDS_S)
        for task in (stopping, dying, *beside):
            task.cancel()
    if is_dead:
        raise EngineDeadError("the engine has died, and the server has ended with it; see the log for why, and restart")


def _log_failure(task: "asyncio.Task[None]") -> None:
    """At once: nobody waits for what runs beside the requests, and they go on without it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s has failed; the server goes on without it", task.get_name(), exc_info=error)


async def _let_finish(context: ServerContext, stop: StopSignals, console: Console) -> None:
    """Refuse new requests; return when those inside have finished, or their time is over."""
    limit_s = context.config.drain_timeout_s
    if _num_open(context):
        console.say(f"Ending: {_requests(_num_open(context))} may finish for {limit_s:g} s; Ctrl-C ends at once.")
    context.gate.is_closed = True
    context.live.viewers.close()
    deadline_s = time.monotonic() + limit_s
    while _num_open(context) and not stop.is_urgent and time.monotonic() < deadline_s:
        await asyncio.sleep(_POLL_S)
    if _num_open(context):
        logger.warning("cut off: %s", _requests(_num_open(context)))


def _num_open(context: ServerContext) -> int:
    """Requests to be waited for: a dashboard is none."""
    return context.gate.num_inside - context.live.viewers.num_open


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
