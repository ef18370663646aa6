"""What devices can do at most: published peaks of GPUs, and this CPU's, measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from octavo import ops

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    name: str
    matmul_flops: dict[str, float]
    """Type of the factors → operations a second of the matrix units, dense, sums in fp32."""
    vector_flops: float
    """Operations a second in fp32 beside the matrix units."""
    bytes_per_s: float
    """Between its memory and its processors."""
    sram_bytes: int
    """That one block's work may keep: a processor's shared memory; a core's second cache."""
    is_measured: bool = False
    """Peaks as they were reached here; else as published."""

    def roofline_s(self, flops: float, hbm_bytes: float, dtype: str, *, is_matmul: bool) -> tuple[float, bool]:
        """max(flops / peak, bytes / bandwidth), and whether the arithmetic is what binds (Williams et al. 2009)."""
        compute_s = flops / (self.matmul_flops[dtype] if is_matmul else self.vector_flops)
        memory_s = hbm_bytes / self.bytes_per_s
        return max(compute_s, memory_s), compute_s >= memory_s


GPUS = {
    "a100": Device(
        name="NVIDIA A100 SXM 80 GB",
        matmul_flops={"fp32": 19.5e12, "fp16": 312e12, "bf16": 312e12},
        vector_flops=19.5e12,
        bytes_per_s=2.039e12,
        sram_bytes=163 << 10,
    ),
    "h100": Device(
        name="NVIDIA H100 SXM",
        matmul_flops={"fp32": 67e12, "fp16": 989e12, "bf16": 989e12},
        vector_flops=67e12,
        bytes_per_s=3.35e12,
        sram_bytes=227 << 10,
    ),
    "h200": Device(
        name="NVIDIA H200 SXM",
        matmul_flops={"fp32": 67e12, "fp16": 989e12, "bf16": 989e12},
        vector_flops=67e12,
        bytes_per_s=4.8e12,
        sram_bytes=227 << 10,
    ),
    "l40s": Device(
        name="NVIDIA L40S",
        matmul_flops={"fp32": 91.6e12, "fp16": 362e12, "bf16": 362e12},
        vector_flops=91.6e12,
        bytes_per_s=0.864e12,
        sram_bytes=99 << 10,
    ),
}
"""As their data sheets say: dense, not sparse; fp32 without TF32."""

_L2_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_DEFAULT_L2_BYTES = 1 << 20


def measure_cpu(dtypes: tuple[str, ...]) -> Device:
    """This CPU with the threads in use: its peaks are those of torch's matrix products and of reading. Takes about a second."""
    ops.set_num_threads(ops.num_threads())  # torch's, too
    rates = {name: _matmul_flops(DTYPES[name]) for name in {*dtypes, "fp32"}}
    return Device(
        name=f"this CPU, {ops.num_threads()} threads (measured)",
        matmul_flops={name: rates[name] for name in dtypes},
        vector_flops=rates["fp32"],  # which the vector units do
        bytes_per_s=_read_bytes_per_s(),
        sram_bytes=_l2_bytes(),
        is_measured=True,
    )


def best_s(run: Callable[[], object], seconds: float = 0.2, min_repeats: int = 3) -> float:
    """The shortest time of a call, of as many as fill `seconds`, after one to warm up."""
    run()
    best, repeats, begin = float("inf"), 0, time.perf_counter()
    while repeats < min_repeats or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        repeats += 1
    return best


def _matmul_flops(dtype: torch.dtype) -> float:
    def rate(size: int) -> float:
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        return 2 * size**3 / best_s(lambda: a @ b)

    return max(rate(size) for size in (1024, 2048))


def _read_bytes_per_s() -> float:
    x = torch.rand(1 << 26)  # 256 MiB: larger than the caches
    return x.numel() * x.element_size() / best_s(x.sum)


def _l2_bytes() -> int:
    if not _L2_SIZE.exists():
        return _DEFAULT_L2_BYTES
    return int(_L2_SIZE.read_text().strip().rstrip("K")) << 10
