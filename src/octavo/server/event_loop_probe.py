"""How long the event loop keeps others waiting, as one who waits sees it."""

import asyncio
from collections.abc import Callable

INTERVAL_S = 0.01
"""A block of d seconds is seen as d - 0.01 … d."""


class EventLoopProbe:
    """A task that sleeps and measures by how much it is woken late."""

    def __init__(self) -> None:
        self.observe: Callable[[float], object] = lambda lag_s: None
        """Told of each lateness in seconds."""
        self._max_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            lag_s = max(0.0, loop.time() - due_s)
            self._max_s = max(self._max_s, lag_s)
            self.observe(lag_s)

    def take_max_s(self) -> float:
        """The longest lateness since this was last asked."""
        longest_s, self._max_s = self._max_s, 0.0
        return longest_s
