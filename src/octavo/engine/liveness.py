"""Whether the engine's step loop is alive, judged by the signs that the loop itself gives."""

import asyncio
import logging
import time
from collections.abc import Callable
from enum import Enum

logger = logging.getLogger(__name__)

BEAT_S = 0.5
"""An idle step loop gives a sign this often; a busy one gives one with each step."""
IDLE_SILENCE_S = 5.0
"""Ten beats: an idle loop has no reason to be silent for longer."""


class EngineState(Enum):
    """What an engine can do for a new request."""

    STARTING = "starting"
    """It loads, and takes no requests yet."""
    RUNNING = "running"
    STALLED = "stalled"
    """Its step loop is silent; it may recover."""
    STOPPING = "stopping"
    """It was asked to end."""
    DEAD = "dead"
    """It ended without having been asked to."""


class Pulse:
    """The time since the step loop's last sign, and whether that is too long for what the loop was doing.

    A busy loop may be silent for as long as its longest step takes: `stall_timeout_s`.
    """

    def __init__(self, stall_timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._busy_limit_s = stall_timeout_s
        self._idle_limit_s = min(stall_timeout_s, IDLE_SILENCE_S)
        self._clock = clock
        self.beat(is_busy=False)

    def beat(self, *, is_busy: bool) -> None:
        """Take in a sign. `is_busy`: the loop said that a step follows at once."""
        self._is_busy = is_busy
        self._last_s = self._clock()

    @property
    def silence_s(self) -> float:
        return self._clock() - self._last_s

    @property
    def is_stalled(self) -> bool:
        return self.silence_s > (self._busy_limit_s if self._is_busy else self._idle_limit_s)


async def log_stalls(pulse: Pulse) -> None:
    """Log each time the pulse stops or comes back; runs until cancelled."""
    was_stalled = False
    while True:
        await asyncio.sleep(BEAT_S)
        if pulse.is_stalled and not was_stalled:
            logger.error("the engine is stalled: no sign of its step loop for %.1f s", pulse.silence_s)
        elif was_stalled and not pulse.is_stalled:
            logger.warning("the engine goes on")
        was_stalled = pulse.is_stalled
