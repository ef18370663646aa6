"""Attention by three algorithms on a machine that counts: right results, and the bytes that the papers' formulas say."""

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.bench import attention_costs as costs
from octavo.bench.attention_costs import AttentionShape
from octavo.ops.reference import (
    TwoLevelMemory,
    block_sizes,
    flash_attention_1,
    flash_attention_1_backward,
    flash_attention_2,
    flash_attention_2_backward,
    standard_attention,
    standard_attention_backward,
)

SHAPES = st.fixed_dictionaries(
    {
        "num_queries": st.integers(1, 40),
        "num_keys": st.integers(1, 40),
        "head_size": st.integers(1, 9),
        "block_rows": st.integers(1, 17),
        "block_columns": st.integers(1, 17),
        "is_causal": st.booleans(),
    }
)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_autograd(q, k, v, do, scale, is_causal):
    """o, dq, dk, dv of the formula itself."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    s = scale * q @ k.T
    if is_causal:
        seen = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
        rows = seen.any(dim=1, keepdim=True)
        p = torch.softmax(s.masked_fill(~seen & rows, -torch.inf), dim=1) * rows
    else:
        p = torch.softmax(s, dim=1)
    o = p @ v
    o.backward(do)
    return o.detach(), q.grad, k.grad, v.grad


@settings(max_examples=120)
@given(SHAPES)
def test_all_give_the_formula_and_its_gradients(shape):
    n, m, d = shape["num_queries"], shape["num_keys"], shape["head_size"]
    q, k, v, do = randn(n, d, seed=1), randn(m, d, seed=2), randn(m, d, seed=3), randn(n, d, seed=4)
    scale, is_causal = d**-0.5, shape["is_causal"]
    blocks = {"block_rows": shape["block_rows"], "block_columns": shape["block_columns"], "is_causal": is_causal}
    want = by_autograd(q, k, v, do, scale, is_causal)

    o, p = standard_attention(TwoLevelMemory(), q, k, v, scale=scale, is_causal=is_causal)
    got = {"standard": (o, *standard_attention_backward(TwoLevelMemory(), do, q, k, v, p, scale=scale))}
    o, sums, maxima = flash_attention_1(TwoLevelMemory(), q, k, v, scale=scale, **blocks)
    backward = flash_attention_1_backward(TwoLevelMemory(), do, q, k, v, o, sums, maxima, scale=scale, **blocks)
    got["FlashAttention-1"] = (o, *backward)
    o, lse = flash_attention_2(TwoLevelMemory(), q, k, v, scale=scale, **blocks)
    backward = flash_attention_2_backward(TwoLevelMemory(), do, q, k, v, o, lse, scale=scale, **blocks)
    got["FlashAttention-2"] = (o, *backward)
    for name, results in got.items():
        for result, expected in zip(results, want, strict=True):
            assert torch.allclose(result, expected, rtol=1e-9, atol=1e-11), name


@settings(max_examples=60)
@given(
    st.integers(1, 70), st.integers(1, 9), st.integers(1, 17), st.integers(1, 17), st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_the_bytes_moved_forward_are_the_closed_forms(n, d, block_rows, block_columns, is_causal, dtype):
    q, k, v = (randn(n, d, seed=seed).to(dtype) for seed in (1, 2, 3))
    shape = AttentionShape(seqlen=n, head_dim=d, heads=1, element_bytes=dtype.itemsize, is_causal=is_causal)
    blocks = {"block_rows": block_rows, "block_columns": block_columns}

    def counted(algorithm, **options) -> TwoLevelMemory:
        memory = TwoLevelMemory()
        algorithm(memory, q, k, v, scale=1.0, is_causal=is_causal, **options)
        return memory

    output_bytes = n * d * dtype.itemsize
    for algorithm, options, cost in (
        (standard_attention, {}, costs.standard(shape)),
        (flash_attention_1, blocks, costs.flash_attention_1(shape, block_rows, block_columns)),
        (flash_attention_2, blocks, costs.flash_attention_2(shape, block_rows, block_columns)),
    ):
        memory = counted(algorithm, **options)
        assert memory.moved_bytes == cost.hbm_bytes
        assert memory.allocated_bytes == output_bytes + cost.extra_bytes
        assert memory.matmul_flops == cost.flops


@pytest.mark.parametrize(("n", "d", "block_rows", "block_columns"), [(64, 8, 16, 16), (70, 8, 16, 32), (33, 4, 33, 5)])
def test_the_bytes_moved_are_those_of_the_papers(n, d, block_rows, block_columns):
    """Of fp32, statistics counted apart: Dao et al. 2022, section 3.2; Dao 2023, section 3.1."""
    q, k, v, do = (randn(n, d, seed=seed).float() for seed in (1, 2, 3, 4))
    blocks = {"scale": 1.0, "block_rows": block_rows, "block_columns": block_columns}
    rows, columns = ceil(n / block_rows), ceil(n / block_columns)

    def elements(algorithm, *args, **options):
        memory = TwoLevelMemory()
        return memory, algorithm(memory, *args, **options)

    memory, (o, p) = elements(standard_attention, q, k, v, scale=1.0)
    assert memory.moved_bytes == 4 * (4 * n * d + 4 * n * n)
    memory, _ = elements(standard_attention_backward, do, q, k, v, p, scale=1.0)
    assert memory.moved_bytes == 4 * (8 * n * d + 7 * n * n)

    memory, (o, sums, maxima) = elements(flash_attention_1, q, k, v, **blocks)
    assert memory.moved_bytes == 4 * (3 * n * d + 3 * n * d * columns + 2 * n + 4 * n * columns)
    memory, _ = elements(flash_attention_1_backward, do, q, k, v, o, sums, maxima, **blocks)
    assert memory.moved_bytes == 4 * (5 * n * d + 5 * n * d * columns + 2 * n * columns)

    memory, (o, lse) = elements(flash_attention_2, q, k, v, **blocks)
    assert memory.moved_bytes == 4 * (2 * n * d + 2 * n * d * rows + n)
    memory, _ = elements(flash_attention_2_backward, do, q, k, v, o, lse, **blocks)
    assert memory.moved_bytes == 4 * (7 * n * d + 4 * n * d * columns + n + 2 * n * columns)


def test_with_a_shared_cache_every_tensor_is_moved_once():
    shape = AttentionShape(seqlen=100, head_dim=8, heads=3, element_bytes=2, is_causal=False)
    cost = costs.flash_attention_2_cached(shape, 32, 16)
    assert cost.hbm_bytes == 3 * (2 * 4 * 100 * 8 + 4 * 100)
    assert cost.hbm_bytes == costs.flash_attention_2(shape, 100, 16).hbm_bytes


@pytest.mark.parametrize("head_dim", [1, 64, 128, 256, 512])
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("sram_bytes", [99 << 10, 163 << 10, 227 << 10])
def test_blocks_of_flash_attention_2_fit_the_fast_memory(head_dim, element_bytes, sram_bytes):
    rows, columns = costs.flash_2_blocks(sram_bytes, head_dim, element_bytes)
    assert head_dim * ((rows + 2 * columns) * element_bytes + 4 * rows) <= sram_bytes
    assert (rows, columns) == (128, 64) or head_dim > 64


def test_blocks_of_flash_attention_1_are_those_of_its_algorithm():
    assert block_sizes(48_000, 64) == (64, 188)
    assert block_sizes(1_000, 64) == (4, 4)
    assert block_sizes(1, 64) == (1, 1)
