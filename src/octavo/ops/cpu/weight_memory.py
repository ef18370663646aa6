"""Memory for packed weights: side by side, in huge pages.

Reading weights is most of a decode step, and the weights of a small model's layer are less than a huge page each: in memory
of their own they would lie in pages of 4 KiB, at whose end a hardware prefetcher stops.
"""

import contextlib
import mmap
import threading
import weakref

import torch
from torch import Tensor

CHUNK_BYTES = 32 << 20
"""Taken from the system at a time; pages that are never written cost nothing."""
ALIGNMENT = 128

_lock = threading.Lock()
_chunk: "weakref.ref[mmap.mmap] | None" = None
"""The last one, kept alive by the weights in it alone."""
_used = 0


def weight_memory(num_bytes: int) -> Tensor:
    """`num_bytes` bytes of zeros, in neighbouring memory for neighbouring calls; it lives as long as the tensor."""
    global _chunk, _used
    if num_bytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    with _lock:
        chunk = _chunk() if _chunk is not None else None
        if chunk is None or _used + num_bytes > len(chunk):
            chunk, _used = _map(max(CHUNK_BYTES, num_bytes)), 0
            _chunk = weakref.ref(chunk)
        start = _used
        _used += -(-num_bytes // ALIGNMENT) * ALIGNMENT
    return torch.frombuffer(chunk, dtype=torch.uint8, count=num_bytes, offset=start)


def _map(num_bytes: int) -> mmap.mmap:
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
