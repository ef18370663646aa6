"""When those who watch are shown the KV blocks."""

import time
from collections.abc import Callable

from octavo.cache import BlockPool
from octavo.cache.block_map import map_blocks
from octavo.core.messages import BlockMap

MAP_PERIOD_S = 0.25
MAX_SHARE = 0.01
"""Of the step loop's time; the period of a pool whose map takes long is longer."""


class BlockMaps:
    """Shows a map after steps, at most one in `MAP_PERIOD_S`; after the last step one that stays true."""

    def __init__(
        self, pool: BlockPool, show: Callable[[BlockMap], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._pool = pool
        self._show = show
        self._clock = clock
        self._step = self._shown_step = 0
        self._due_s = 0.0

    def after_step(self, step: int) -> None:
        """Call with each step's number, before anything else changes the pool."""
        self._step = step
        self.show_if_due()

    def show_if_due(self) -> None:
        """Call now and then while there are no steps."""
        begin_s = self._clock()
        if self._step == self._shown_step or begin_s < self._due_s:
            return
        self._show(map_blocks(self._pool, self._step))
        self._shown_step = self._step
        end_s = self._clock()
        self._due_s = begin_s + max(MAP_PERIOD_S, (end_s - begin_s) / MAX_SHARE)
