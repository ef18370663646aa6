"""Weights of every format, and the native kernels at every instruction set of this machine."""

from collections.abc import Callable, Iterator

import pytest
import torch

from octavo import ops
from octavo.ops import StoredWeight, WeightFormat, table
from octavo.ops.dispatch import NATIVE, Op

FLOAT_DTYPES = {
    WeightFormat.F32: torch.float32,
    WeightFormat.F16: torch.float16,
    WeightFormat.BF16: torch.bfloat16,
}
HALF_OFFSETS = {  # of the fp16 fields in a block
    WeightFormat.Q4_1: (0, 2),
    WeightFormat.Q5_1: (0, 2),
    WeightFormat.Q4_K: (0, 2),
    WeightFormat.Q5_K: (0, 2),
    WeightFormat.Q6_K: (208,),
}
CHOSEN = ""
"""The path that the number of rows chooses."""


class HeapMemory:
    """Each weight in an allocation of its own, so that a sanitizer sees what leaves it."""

    def take(self, num_bytes: int) -> torch.Tensor:
        return torch.zeros(num_bytes, dtype=torch.uint8)


@pytest.fixture(scope="session", autouse=True)
def weights_on_the_heap() -> Iterator[None]:
    if NATIVE is None:
        yield
        return
    from octavo.ops.cpu import linear

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear._weights, "memory", HeapMemory())
        yield


@pytest.fixture(params=[*ops.available_isas(), "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once a backend: kernels at each instruction set, and the reference."""
    name = request.param
    if name == "reference":
        yield name
        return
    assert NATIVE is not None
    before = NATIVE.isa()
    NATIVE.force_isa(name)
    yield name
    NATIVE.force_isa(before)


@pytest.fixture(params=ops.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once an instruction set of the native kernels."""
    assert NATIVE is not None
    before = NATIVE.isa()
    NATIVE.force_isa(request.param)
    yield request.param
    NATIVE.force_isa(before)


def int8_paths() -> list[tuple[str, str]]:
    """(instruction set, path) of every way to run linear_int8 and linear_i8 here."""
    if NATIVE is None:
        return []
    before, found = NATIVE.isa(), []
    for name in NATIVE.available_isas():
        NATIVE.force_isa(name)
        found += [(name, path) for path in [*NATIVE.int8_paths(), CHOSEN]]
    NATIVE.force_isa(before)
    return found


@pytest.fixture(params=int8_paths(), ids=lambda each: f"{each[0]}-{each[1] or 'chosen'}")
def int8_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once a path of linear_int8 and linear_i8 on each instruction set, and once with all of them allowed."""
    assert NATIVE is not None
    before = NATIVE.isa()
    NATIVE.force_isa(request.param[0])
    NATIVE.force_int8_path(request.param[1])
    yield request.param[1]
    NATIVE.force_isa(before)


def attention_paths() -> list[str]:
    """Instruction sets and the paths of attention on each: "avx2 vector"."""
    if NATIVE is None:
        return []
    before, found = NATIVE.isa(), []
    for isa in NATIVE.available_isas():
        NATIVE.force_isa(isa)
        found += [f"{isa} {path}" for path in NATIVE.attention_paths()]
    NATIVE.force_isa(before)
    return found


@pytest.fixture(params=[*attention_paths(), "reference"])
def attention_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once a path of attention, and with the reference."""
    if request.param == "reference":
        with pytest.MonkeyPatch.context() as patch:
            for name in ("PAGED_ATTENTION", "ATTENTION_BACKWARD", "STORE_KV"):
                patch.setattr(table, name, Op(getattr(table, name).kernels[-1:]))
            yield request.param
        return
    before = NATIVE.isa()
    isa, _, path = request.param.partition(" ")
    NATIVE.force_isa(isa)
    NATIVE.force_attention_path(path)
    yield request.param
    NATIVE.force_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = ops.num_threads()
    yield ops.set_num_threads
    ops.set_num_threads(before)


@pytest.fixture(scope="session")
def stored_weight() -> Callable[..., StoredWeight]:
    """make(format, n, k, seed=0): random codes of the format with scales of about 0.01."""

    def make(weight_format: WeightFormat, n: int, k: int, seed: int = 0) -> StoredWeight:
        generator = torch.Generator().manual_seed(seed)
        if weight_format is WeightFormat.I8:
            return ops.quantize_weight(make(WeightFormat.F32, n, k, seed))
        if not weight_format.is_block_format:
            data = torch.randn(n, k, generator=generator).to(FLOAT_DTYPES[weight_format])
            return StoredWeight(data, weight_format, n, k)
        shape = (n, weight_format.row_bytes(k))
        data = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        blocks = data.view(n, -1, weight_format.block_bytes)
        for offset in HALF_OFFSETS.get(weight_format, (0,)):
            half = (0.01 * torch.randn(*blocks.shape[:2], 1, generator=generator)).half()
            blocks[..., offset : offset + 2] = half.view(torch.uint8)
        return StoredWeight(data, weight_format, n, k)

    return make


@pytest.fixture(scope="session")
def assert_accurate() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]:
    """(got, same computation in fp32 torch, exact in fp64): at most twice torch's error, plus 1e-6 of the scale."""

    def check(got: torch.Tensor, torch_fp32: torch.Tensor, exact: torch.Tensor) -> None:
        assert got.shape == exact.shape
        if exact.numel() == 0:
            return
        allowed = 2 * (torch_fp32.double() - exact).abs().max() + 1e-6 * exact.abs().max()
        assert (got.double() - exact).abs().max() <= allowed

    return check
