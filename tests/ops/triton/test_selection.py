"""Which tensors go to Triton's kernels, which kernels a plan goes to, and what is said where there is no Triton."""

import subprocess
import sys
from dataclasses import dataclass, field, replace

import pytest
import torch
from ops.attention_problem import Layout, Problem

from octavo.ops import (
    AttentionOptions,
    AttentionPlan,
    OpArgumentError,
    flash_attn_varlen_func,
    flash_attn_with_kvcache,
    table,
)
from octavo.ops.dispatch import Kernel, Op
from octavo.ops.errors import MissingKernelsError
from octavo.ops.triton import attention
from octavo.ops.triton.launch_table import (
    SPLIT_KEYS,
    DeviceLimits,
    Family,
    Workload,
    forward_tiles,
    key_gradient_tiles,
    padded,
    query_gradient_tiles,
    split_tiles,
)

A100 = DeviceLimits(capability=(8, 0), shared_bytes=163 << 10)
H100 = DeviceLimits(capability=(9, 0), shared_bytes=227 << 10)
L4 = DeviceLimits(capability=(8, 9), shared_bytes=99 << 10)


@dataclass
class Elsewhere:
    """A tensor on a GPU that is not here."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    device: torch.device = field(default_factory=lambda: torch.device("cuda", 0))


def test_triton_comes_before_the_reference():
    for op in (table.PAGED_ATTENTION, table.ATTENTION_BACKWARD):
        assert [kernel.backend for kernel in op.kernels][-2:] == ["triton", "reference"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_on_a_gpu_are_taken(dtype):
    q, cache = Elsewhere(dtype, (3, 4, 64)), Elsewhere(dtype, (2, 16, 2, 64))
    is_taken = dtype != torch.float64
    assert attention.can_paged_attention(q, cache, cache, None, None, o_THE=q, lse_HT=None) is is_taken
    assert attention.can_attention_backward(q, q, cache, cache, q, None, None, None, dlse_HT=None) is is_taken
    here = torch.zeros(3, 4, 64, dtype=dtype)
    assert not attention.can_paged_attention(here, here, here, None, None, o_THE=here, lse_HT=None)
    assert not attention.can_attention_backward(here, here, here, here, here, None, None, None, dlse_HT=None)


def test_large_heads_in_fp32_need_shared_memory(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    from octavo.ops.triton import kernels

    built = Problem(requests=((3, 5),), key_size=300).build()
    o, lse = built.outputs()

    def differentiate(limits):
        monkeypatch.setattr(kernels, "device_limits", lambda device: limits)
        monkeypatch.setattr(kernels, "backward_launches", lambda *arguments: [])
        return kernels.attention_backward(o, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)

    with pytest.raises(MissingKernelsError, match=r"got heads of 300; allowed up to 256 .* bf16"):
        differentiate(L4)
    assert differentiate(A100)[0].shape == built.q.shape


def test_ops_start_without_triton():
    code = "import sys, octavo.ops; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_triton_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("octavo.ops.triton.")]:
        if name != attention.__name__:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["octavo.ops.triton"], "kernels", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    q, cache = torch.zeros(1, 1, 8), torch.zeros(1, 1, 1, 8)
    with pytest.raises(MissingKernelsError, match="pip install"):
        attention.paged_attention(q, cache, cache, None, AttentionOptions(scale=1.0), o_THE=q, lse_HT=None)
    with pytest.raises(MissingKernelsError, match="pip install"):
        attention.attention_backward(q, q, cache, cache, q, q, None, AttentionOptions(scale=1.0), dlse_HT=None)


def test_hints_are_checked():
    plan = Problem(requests=((3, 7), (5, 2))).build().plan
    for good in ({"max_query_rows": 5}, {"max_query_rows": 9, "max_keys": 7}):
        assert changed(plan, **good).max_query_rows == good["max_query_rows"]
    for wrong in ({"max_query_rows": 4}, {"max_keys": 6}):
        with pytest.raises(OpArgumentError, match="max_"):
            changed(plan, **wrong)


def changed(plan: AttentionPlan, **changes: int) -> AttentionPlan:
    return replace(plan, **changes)


def test_families():
    assert [limits.family for limits in (A100, H100, L4)] == [Family.AMPERE, Family.HOPPER, Family.SMALL]
    assert [limits.converts_fp8 for limits in (A100, H100, L4)] == [False, True, True]


@pytest.mark.parametrize("limits", [A100, H100, L4], ids=["A100", "H100", "L4"])
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("is_heavy", [False, True])
def test_every_size_has_tiles(limits, element_bytes, is_heavy):
    workload = Workload(element_bytes=element_bytes, is_heavy=is_heavy)
    for size in range(1, 513):
        assert padded(size) >= size
        for tiles in (
            forward_tiles(size, 1, workload, limits),
            split_tiles(1, size, workload, 3),
            key_gradient_tiles(size, 7, workload, limits),
            query_gradient_tiles(5, size, workload, limits),
        ):
            assert min(tiles.block_m, tiles.block_n) >= 16
        assert SPLIT_KEYS % split_tiles(size, size, workload, 1).block_n == 0
    assert split_tiles(64, 64, Workload(element_bytes=2, is_heavy=is_heavy), 200).block_m == 64


@pytest.mark.parametrize(
    ("rows", "hints", "kernels"),
    [
        ((1, 1, 1), {"max_query_rows": 1}, ["split_kernel", "merge_kernel"]),
        ((1, 1, 1), {}, ["split_kernel", "merge_kernel"]),  # three rows in all: no request has more
        ((40, 40), {"max_query_rows": 40}, ["forward_kernel"]),
        ((40,), {}, ["forward_kernel"]),
        ((40, 40), {}, ["forward_kernel", "split_kernel", "merge_kernel"]),
        ((40, 1), {"max_query_rows": 40}, ["forward_kernel", "split_kernel", "merge_kernel"]),
        ((1, 1), {"max_query_rows": 1, "max_keys": SPLIT_KEYS}, ["split_kernel"]),
        ((), {}, []),
    ],
    ids=str,
)
def test_sizes_choose_kernels(rows, hints, kernels):
    pytest.importorskip("triton", reason="Triton is not installed")
    from octavo.ops.triton.forward import forward_launches

    built = Problem(requests=tuple((count, 500) for count in rows), layout=Layout.VARLEN).build()
    plan = changed(built.plan, **hints)
    o, lse = built.outputs()
    launches = forward_launches(built.q, built.k_cache, built.v_cache, plan, built.options, o, lse, A100)
    assert [launch.kernel.fn.__name__ for launch in launches] == kernels


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that the calls of attention would launch on an A100."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from octavo.ops.triton.forward import forward_launches

    names = []

    def launch(*arguments, o_THE, lse_HT):
        names.extend(each.kernel.fn.__name__ for each in forward_launches(*arguments, o_THE, lse_HT, A100))

    monkeypatch.setattr(table, "PAGED_ATTENTION", Op((Kernel("launched", lambda *_, **__: True, launch),)))
    return names


@pytest.mark.parametrize(
    ("num_rows", "cache_seqlens", "kernels"),
    [
        (1, SPLIT_KEYS, ["split_kernel"]),
        (1, SPLIT_KEYS + 1, ["split_kernel", "merge_kernel"]),
        (1, None, ["split_kernel", "merge_kernel"]),  # all of the cache
        (1, torch.tensor([3, 5]), ["split_kernel", "merge_kernel"]),  # on a GPU nobody knows them
        (40, 100, ["forward_kernel"]),
    ],
    ids=str,
)
def test_a_cache_says_how_long_its_requests_are(num_rows, cache_seqlens, kernels, launched):
    q, cache = torch.zeros(2, num_rows, 4, 16), torch.zeros(2, 4 * SPLIT_KEYS, 2, 16)
    flash_attn_with_kvcache(q, cache, cache, cache_seqlens=cache_seqlens)
    assert launched == kernels


def test_new_keys_count(launched):
    q, cache, new = torch.zeros(2, 1, 4, 16), torch.zeros(2, 2, 4 * SPLIT_KEYS, 2, 16), torch.zeros(2, 1, 2, 16)
    for length in (SPLIT_KEYS - 1, SPLIT_KEYS):
        flash_attn_with_kvcache(q, *cache, new, new, cache_seqlens=length)
    assert launched == ["split_kernel", "split_kernel", "merge_kernel"]


def test_maxima_of_requests_over_blocks_are_heeded(launched):
    blocks, tables = torch.zeros(64, 64, 2, 16), torch.arange(64, dtype=torch.int32).view(2, 32)
    for num_rows, num_keys in ((1, 300), (40, 300)):
        rows, keys = (torch.tensor([0, n, 2 * n], dtype=torch.int32) for n in (num_rows, num_keys))
        q = torch.zeros(2 * num_rows, 4, 16)
        flash_attn_varlen_func(q, blocks, blocks, rows, keys, num_rows, num_keys, block_table=tables)
    assert launched == ["split_kernel", "forward_kernel"]
