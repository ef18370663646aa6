"""What this machine has: cores and memory that the process may use, and a GPU if there is one."""

from collections.abc import Iterator
from pathlib import Path

import torch

from octavo import ops
from octavo.config import MachineFacts

_CGROUP = Path("/sys/fs/cgroup")


def inspect_machine() -> MachineFacts:
    """Cores from affinity and cgroup quota, memory from /proc and cgroup limits, GPU from torch."""
    has_cuda = torch.cuda.is_available()
    cuda_free, cuda_total = torch.cuda.mem_get_info() if has_cuda else (0, 0)
    return MachineFacts(
        has_bf16_tiles=ops.has_bf16_tiles(),
        has_fast_bytes=ops.isa() not in ("baseline", "reference"),
        num_cores=ops.num_usable_cores(),
        available_memory_bytes=available_memory_bytes(),
        has_cuda=has_cuda,
        cuda_total_bytes=cuda_total,
        cuda_free_bytes=cuda_free,
    )


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Memory that can still be had: the least that the system and each enclosing cgroup (v1 or v2) leave.

    A cgroup's page cache that can be dropped (`inactive_file`) does not count as used: a mapped
    model file would otherwise count against the KV cache.
    """
    available = _meminfo(root)
    for directory, limit_name, usage_name in _memory_cgroups(root):
        limit, usage = _read_number(directory / limit_name), _read_number(directory / usage_name)
        if limit is not None and usage is not None:
            available = min(available, max(0, limit - usage + _inactive_file(directory)))
    return available


def _meminfo(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _memory_cgroups(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(directory, name of the limit, name of the usage) of this process's memory cgroup and those around it."""
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        mount = root / _CGROUP.relative_to("/")
        if controllers == "":
            names = ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount, names = mount / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        directory = mount / path.lstrip("/")
        while directory != mount:
            yield directory, *names
            directory = directory.parent
        yield mount, *names


def _inactive_file(directory: Path) -> int:
    for line in _read_lines(directory / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _read_number(path: Path) -> int | None:
    """The file's number; None where there is no such file, or it says «max»."""
    lines = _read_lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
