"""The start, phase by phase: shown to whoever started the server, and to whoever asks it meanwhile."""

import logging
import sys
import time

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.core.logs import fields
from octavo.server.errors import overloaded
from octavo.server.messages.errors import error_body
from octavo.server.request_record import current_record
from octavo.server.wire import to_json

logger = logging.getLogger(__name__)

_PLAIN_PROGRESS_S = 10.0
"""Where there is no terminal, a long phase says every so often how far it is."""


class Console:
    """Tells whoever started the server how it goes, on stderr: lines, or log entries where those are JSON."""

    def __init__(self, *, is_json: bool = False) -> None:
        self._is_json = is_json
        self._is_terminal = not is_json and sys.stderr.isatty()
        self._last_progress_s = time.perf_counter()
        self._over_progress = 0
        """Columns that the next line covers."""

    def say(self, line: str, *, hint: str = "") -> None:
        """`hint` is for people: no log entry has it."""
        if self._is_json:
            logger.info("%s", line.strip())
        else:
            print(f"{line:<{self._over_progress}}{hint}", file=sys.stderr, flush=True)

    def show_progress(self, phase: str, share: float) -> None:
        """On a terminal one line that changes, over which whatever comes next is written; elsewhere one now and then."""
        text = f"  {phase:<16} {share:5.0%}"
        if self._is_terminal:
            print(text, end="\r", file=sys.stderr, flush=True)
            self._over_progress = len(text)
        elif time.perf_counter() - self._last_progress_s >= _PLAIN_PROGRESS_S:
            self._last_progress_s = time.perf_counter()
            self.say(text)

    def show_done(self, phase: str, seconds: float) -> None:
        if self._is_json:
            logger.info("%s took %.2f s", phase, seconds, extra=fields(phase=phase, seconds=round(seconds, 3)))
        else:
            self.say(f"  {phase:<16} {seconds:6.2f} s")


class StartProgress:
    """How far the start has come. Each phase is shown when it is done, once, with its time."""

    def __init__(self, console: Console) -> None:
        self.phase = "start"
        self.share = 0.0
        self.begin_s = time.perf_counter()
        self._console = console
        self._phase_begins_s: dict[str, float] = {}
        self._done: set[str] = set()

    def report(self, phase: str, share: float) -> None:
        self.phase, self.share = phase, share
        now = time.perf_counter()
        begin_s = self._phase_begins_s.setdefault(phase, now)
        if phase in self._done:
            return
        if share < 1.0:
            self._console.show_progress(phase, share)
        else:
            self._done.add(phase)
            self._console.show_done(phase, now - begin_s)


class LoadingPage:
    """Answers every request with 503 `loading` and how far the start has come, until the routes are there."""

    def __init__(self, progress: StartProgress) -> None:
        self._progress = progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        progress = self._progress
        elapsed_s = time.perf_counter() - progress.begin_s
        error = overloaded(
            f"the model is loading ({progress.phase}, {progress.share:.0%}, {elapsed_s:.0f} s); try again later",
            code="loading",
        )
        start = {"phase": progress.phase, "progress": round(progress.share, 3), "elapsed_s": round(elapsed_s, 3)}
        current_record.get().error_code = error.code
        body = to_json({**error_body(error, scope["path"], current_record.get().id), "start": start})
        await Response(body, error.status, error.headers, "application/json")(scope, receive, send)
