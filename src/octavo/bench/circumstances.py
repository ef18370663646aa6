"""Under which circumstances something was measured: version, commit, machine."""

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import octavo
from octavo.engine.machine import inspect_machine

_PACKAGE = Path(octavo.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    octavo: str
    commit: str | None
    """Of the checkout this runs from, «-dirty» where files were changed; None for an installed package."""
    python: str
    torch: str
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    cpu: str
    num_cores: int
    """That this process may use."""
    memory_bytes: int
    available_memory_bytes: int
    """That this process may still use."""
    gpu: str | None
    load_average: float
    """Of the last minute: what else was running."""


def circumstances(command: str) -> dict[str, Any]:
    """As a benchmark's JSON has them."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "software": asdict(software()),
        "hardware": asdict(hardware()),
    }


def software() -> Software:
    return Software(
        octavo=octavo.__version__,
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
    )


def hardware() -> Hardware:
    machine = inspect_machine()
    return Hardware(
        cpu=_cpu(),
        num_cores=machine.num_cores,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        available_memory_bytes=machine.available_memory_bytes,
        gpu=torch.cuda.get_device_name() if machine.has_cuda else None,
        load_average=os.getloadavg()[0],
    )


def _cpu() -> str:
    """The processor's name as Linux tells it; its architecture where it does not."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str | None:
    """Of Octavo's own checkout, never of one that merely has a virtual environment inside."""
    if _PACKAGE.parent.name != "src" or shutil.which("git") is None:
        return None
    root = _PACKAGE.parent.parent
    described = _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return described if described and _git(root, "rev-parse", "--show-toplevel") == str(root.resolve()) else None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return result.stdout.strip() if result.returncode == 0 else None
