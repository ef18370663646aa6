"""Compiles launches for a GPU that is not there, and tells what they need of it."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from octavo.ops.triton.arguments import Launch
from octavo.ops.triton.launch_table import DeviceLimits

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_WARP_SIZE = 32

ARCHITECTURES = {
    80: DeviceLimits(capability=(8, 0), shared_bytes=163 << 10),
    86: DeviceLimits(capability=(8, 6), shared_bytes=99 << 10),
    89: DeviceLimits(capability=(8, 9), shared_bytes=99 << 10),
    90: DeviceLimits(capability=(9, 0), shared_bytes=227 << 10),
}
"""sm_… to its limits (CUDA C++ Programming Guide, compute capabilities)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a block of a compiled kernel takes."""

    kernel: str
    registers: int
    """A thread."""
    spilled_bytes: int
    """A thread, in memory instead of registers."""
    shared_bytes: int


class _Target:
    """A driver that knows nothing but what it compiles for."""

    def __init__(self, architecture: int) -> None:
        self._architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._architecture, _WARP_SIZE)

    def get_current_device(self) -> int:
        return self._architecture  # kernels are kept by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def assembler_version() -> str:
    """Of Triton's ptxas, which gives out the registers."""
    said = subprocess.run([str(_TOOLS / "ptxas"), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", said)
    assert found is not None, said
    return found[1]


@contextmanager
def compiling_for(architecture: int) -> Iterator[None]:
    """Within, launches of tensors on a CPU compile for sm_`architecture`. They cannot run."""
    driver.set_active(_Target(architecture))
    try:
        yield
    finally:
        if torch.cuda.is_available():  # else there is none to go back to
            driver.reset_active()


def resources(launch: Launch, architecture: int) -> Resources:
    """As `cuobjdump`, which comes with Triton, reads them from the compiled kernel."""
    with compiling_for(architecture):
        compiled: Any = launch.compile()
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(_TOOLS / "cuobjdump"), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found is not None, usage
    registers, stack, local = map(int, found.groups())
    return Resources(
        kernel=compiled.metadata.name,
        registers=registers,
        spilled_bytes=stack + local,
        shared_bytes=compiled.metadata.shared,
    )
