"""When a step's report carries a map of the KV blocks."""

import time
from collections.abc import Callable

from octavo.cache import BlockPool
from octavo.cache.block_map import map_blocks
from octavo.core.messages import BlockMap

MAP_PERIOD_S = 0.25


class BlockMaps:
    """A map each `MAP_PERIOD_S` while the engine works, and with its last step before it rests: that stays true."""

    def __init__(self, pool: BlockPool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._due_s = 0.0

    def after_step(self, *, has_work: bool) -> BlockMap | None:
        """None where none is due; `has_work`: a step follows at once."""
        now = self._clock()
        if has_work and now < self._due_s:
            return None
        self._due_s = now + MAP_PERIOD_S
        return map_blocks(self._pool)
