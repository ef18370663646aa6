"""Memory for packed weights: side by side, in huge pages.

Reading weights is most of a decode step, and the weights of a small model's layer are less than a huge page each: in memory
of their own they would lie in pages of 4 KiB, at whose end a hardware prefetcher stops.
"""

import logging
import mmap
import sys
import weakref

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

CHUNK_BYTES = 32 << 20
"""Taken from the system at a time; huge pages in which nothing is written cost nothing."""
ALIGNMENT = 128


class WeightMemory:
    """Hands out pieces of chunks, each the neighbour of the one before; a chunk lives as long as a piece of it."""

    def __init__(self) -> None:
        self._chunk: weakref.ref[mmap.mmap] | None = None
        self._used = 0

    def take(self, num_bytes: int) -> Tensor:
        """`num_bytes` bytes of zeros."""
        if num_bytes == 0:
            return torch.empty(0, dtype=torch.uint8)
        chunk = self._chunk() if self._chunk is not None else None
        if chunk is None or self._used + num_bytes > len(chunk):
            chunk, self._used = _map(max(CHUNK_BYTES, num_bytes)), 0
            self._chunk = weakref.ref(chunk)
        start = self._used
        self._used += -(-num_bytes // ALIGNMENT) * ALIGNMENT
        return torch.frombuffer(chunk, dtype=torch.uint8, count=num_bytes, offset=start)


def _map(num_bytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError as error:
            logger.info("weights lie in small pages: this system has no huge ones (%s)", error)
    return memory
