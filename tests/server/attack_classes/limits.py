"""What no attack may get: a hang, or memory without end."""

import resource
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HANG_S = 20.0
"""Nothing here takes a second; a guard against what would take for ever."""
ADDRESSES = 256 << 20
"""What threads and allocators may map besides; a model's tensors are allocated where tracemalloc does not look."""


@contextmanager
def bounded(most_bytes: int = 8 << 20, most_s: float = HANG_S) -> Iterator[None]:
    """No hang and no over-allocation inside: Python's own is measured, and what else asks for memory is refused it."""
    tracemalloc.start()
    start_s = time.monotonic()
    try:
        with limited_memory():
            yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
        assert time.monotonic() - start_s < most_s
    finally:
        tracemalloc.stop()


@contextmanager
def limited_memory() -> Iterator[None]:
    """Whoever asks for more than `ADDRESSES` inside gets an error that is none of Octavo's."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (num_pages * resource.getpagesize() + ADDRESSES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
