"""What no attack may get: a hang, or memory without end."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

HANG_S = 20.0
"""Nothing here takes a second; a guard against what would take for ever."""


@contextmanager
def bounded(most_bytes: int = 8 << 20) -> Iterator[None]:
    """No hang and no over-allocation inside."""
    tracemalloc.start()
    start_s = time.monotonic()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
        assert time.monotonic() - start_s < HANG_S
    finally:
        tracemalloc.stop()
