"""What this machine has: cores and memory that the process may use, and a GPU if there is one."""

import os
from pathlib import Path

import torch

from octavo.config import MachineFacts

_CGROUP = Path("/sys/fs/cgroup")


def inspect_machine() -> MachineFacts:
    """Cores from affinity and cgroup quota, memory from /proc and cgroup limit, GPU from torch."""
    has_cuda = torch.cuda.is_available()
    cuda_free, cuda_total = torch.cuda.mem_get_info() if has_cuda else (0, 0)
    return MachineFacts(
        num_cores=_num_cores(),
        available_memory_bytes=_available_memory_bytes(),
        has_cuda=has_cuda,
        cuda_total_bytes=cuda_total,
        cuda_free_bytes=cuda_free,
    )


def _num_cores() -> int:
    allowed = len(os.sched_getaffinity(0))
    quota = _read_words(_CGROUP / "cpu.max")  # «max 100000» or «200000 100000»
    if len(quota) == 2 and quota[0].isdigit():
        allowed = min(allowed, max(1, int(quota[0]) // int(quota[1])))
    return allowed


def _available_memory_bytes() -> int:
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit, used = _read_words(_CGROUP / "memory.max"), _read_words(_CGROUP / "memory.current")
    if limit and limit[0].isdigit() and used:
        available = min(available, max(0, int(limit[0]) - int(used[0])))
    return available


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no cgroup v2 here: no limit
        return []
