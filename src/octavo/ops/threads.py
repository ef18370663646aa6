"""How many threads the CPU kernels use. It changes speed, never bits."""

import os

import torch

from octavo.ops.dispatch import NATIVE
from octavo.ops.errors import OpArgumentError

MAX_THREADS = 1024


def set_num_threads(num_threads: int) -> None:
    """Threads of the CPU kernels, the calling one included. Process-wide."""
    if not 1 <= num_threads <= MAX_THREADS:
        raise OpArgumentError(
            f"num_threads: got {num_threads}; allowed 1 to {MAX_THREADS}; {os.cpu_count()} cores are here",
            param="num_threads",
        )
    if NATIVE is not None:
        NATIVE.set_num_threads(num_threads)
    torch.set_num_threads(num_threads)


def num_usable_cores() -> int:
    """Cores that this process may use: its affinity and its cgroup's quota respected, at least 1."""
    return len(os.sched_getaffinity(0)) if NATIVE is None else int(NATIVE.num_usable_cores())


def num_threads() -> int:
    """Threads in use; at first as many as the process may use cores."""
    return torch.get_num_threads() if NATIVE is None else int(NATIVE.num_threads())
