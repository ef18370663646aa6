"""Where a connection is in a request, and how long it may be there."""

import asyncio
import enum
from collections.abc import Callable, Mapping


class Phase(enum.Enum):
    """Where a connection is in a request."""

    IDLE = enum.auto()
    """Between two."""
    HEAD = enum.auto()
    """Its headers are not there yet."""
    BODY = enum.auto()
    ANSWER = enum.auto()
    """It is there, and its answer is not: what has arrived of the next one waits."""


class PhaseClock:
    """Calls `expire` where a phase takes longer than its seconds. Each phase of each request has one deadline, which
    does not move while data trickles in; a phase without seconds may take as long as it will.
    """

    def __init__(self, seconds: Mapping[Phase, float], expire: Callable[[], None]) -> None:
        self.phase = Phase.IDLE
        self._seconds = seconds
        self._expire = expire
        self._deadline: asyncio.TimerHandle | None = None

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        self.set_deadline(self._seconds.get(phase))

    def set_deadline(self, seconds: float | None) -> None:
        """Instead of the one there is."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._expire)
