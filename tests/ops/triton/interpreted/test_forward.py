"""Legend: T tokens, H query heads, K KV heads, D key size, E value size."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.attention_problem import (
    CAUSAL,
    Layout,
    Problem,
    head_scales,
    head_slopes,
    problems,
    request_scales,
    request_slopes,
    shared_bias,
    sinks,
    with_options,
)
from ops.triton.checks import check_batch_invariance, check_chunks, check_forward

from octavo.ops import Dropout
from octavo.ops.triton import kernels
from octavo.ops.triton.launch_table import Tiles

FP8 = torch.float8_e4m3fn

OPTIONS = {
    "full": {},
    "causal": CAUSAL,
    "local": {"window_left": 20, "window_right": 5},
    "left": {"window_left": 33},
    "right": {"window_right": 7},
    "causal-local": {"window_left": 17, "window_right": 0},
    "diagonal": {"window_left": 0, "window_right": 0},
    "softcap": {"softcap": 2.0, "window_right": 0},
    "alibi": {"alibi_slopes": head_slopes, "window_right": 0},
    "alibi-requests": {"alibi_slopes": request_slopes},
    "bias": {"bias": lambda p, randn: randn(1, p.num_heads, max(p.rows), max(p.keys))},
    "bias-requests": {
        "bias": lambda p, randn: randn(len(p.rows), 1, max(p.rows) + 3, max(p.keys) + 5),
        "window_right": 0,
    },
    "sinks": {"sinks": sinks, "window_right": 0},
    "dropout": {"dropout": Dropout(probability=0.3, seed=0x123456789AB)},
    "negative": {"scale": -0.3},
    "zero": {"scale": 0.0, "window_left": 9},
    "all": {
        "window_left": 40,
        "window_right": 3,
        "softcap": 3.0,
        "alibi_slopes": head_slopes,
        "bias": shared_bias,
        "sinks": lambda p, randn: randn(p.num_heads).double(),
        "dropout": Dropout(probability=0.1, seed=-1),
    },
}
MIXED = {"requests": ((1, 200), (60, 99), (17, 17), (0, 9), (5, 3)), "num_kv_heads": 1}
"""A decode, a chunk, a prompt, a request without rows, and one with more rows than keys."""


def attend(q, k_cache, v_cache, plan, options, o, lse):
    kernels.paged_attention(q, k_cache, v_cache, plan, options, o, lse)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """So that few rows and keys make several tiles and splits; in the interpreter, an operation costs as much whatever its size."""
    monkeypatch.setattr("octavo.ops.triton.forward.SPLIT_KEYS", 64)
    monkeypatch.setattr("octavo.ops.triton.forward.forward_tiles", lambda *sizes: Tiles(64, 32, 4, 1))
    monkeypatch.setattr("octavo.ops.triton.forward.split_tiles", lambda *sizes: Tiles(16, 32, 4, 1))


def problem(**changes):
    return Problem(**{**MIXED, **changes})


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_on_a_paged_cache(options):
    check_forward(problem(options=options).build(), attend)


@pytest.mark.parametrize("name", ["full", "causal", "local", "softcap", "alibi", "dropout", "all"])
def test_options_on_dense_keys_in_fp16(name):
    options = OPTIONS[name]
    layout = Layout.VARLEN if "dropout" in options else Layout.DENSE
    case = problem(options=options, layout=layout, dtype=torch.float16, key_size=40, value_size=24, group=3)
    check_forward(case.build(), attend)


@pytest.mark.parametrize(
    ("layout", "heads"),
    [(Layout.PAGED, (3, 1)), (Layout.PAGED, (1, 4)), (Layout.VARLEN, (2, 3)), (Layout.DENSE, (2, 2))],
    ids=["paged-MHA", "paged-MQA", "varlen-GQA", "dense-GQA"],
)
def test_layouts_and_groups(layout, heads):
    case = problem(layout=layout, num_kv_heads=heads[0], group=heads[1], options=CAUSAL)
    check_forward(replace(case, has_hints=True).build(), attend)


@pytest.mark.parametrize("block_size", [1, 8, 32, 256])
def test_block_sizes(block_size):
    check_forward(problem(block_size=block_size, options={"window_left": 30, "window_right": 0}).build(), attend)


@pytest.mark.parametrize(
    "sizes",
    [(1, 1), (7, 7), (32, 32), (59, 59), (64, 64), (80, 80), (111, 111), (128, 128), (40, 200), (300, 16), (512, 512)],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_head_sizes(sizes, dtype):
    case = Problem(
        requests=((20, 37), (3, 40)),
        key_size=sizes[0],
        value_size=sizes[1],
        dtype=dtype,
        scale=sizes[0] ** -0.5,
        options=CAUSAL,
    )
    check_forward(case.build(), attend)


@pytest.mark.parametrize(
    ("dtype", "cache_dtype"),
    [(torch.float32, torch.float16), (torch.float32, torch.bfloat16), (torch.float16, torch.float32)],
    ids=str,
)
def test_a_cache_of_another_type(dtype, cache_dtype):
    check_forward(problem(dtype=dtype, cache_dtype=cache_dtype, options=CAUSAL).build(), attend)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("cache_dtype", [FP8, torch.int8], ids=["fp8", "int8"])
def test_a_scaled_cache(dtype, cache_dtype):
    options = {"k_scales": head_scales, "v_scales": head_scales, "window_right": 0}
    case = problem(dtype=dtype, cache_dtype=cache_dtype, options=options, scale=0.1)
    check_forward(case.build(), attend)
    check_forward(with_options(case, k_scales=request_scales).build(), attend)


def test_every_value_of_fp8():
    """The bytes are converted by integer arithmetic where a device has no instruction for it: here of one value vector."""
    codes = torch.arange(256, dtype=torch.uint8).view(FP8)
    ones = {name: torch.ones(1) for name in ("k_scales", "v_scales")}
    case = Problem(
        requests=((1, 1),), num_kv_heads=1, group=1, key_size=1, value_size=256, cache_dtype=FP8, options=ones
    ).build()
    case.v_cache[:] = codes
    o, _ = run(case)
    assert torch.equal(o.view(-1).nan_to_num(999.0), codes.float().nan_to_num(999.0))


def run(built, **changes):
    """o and lse of a built problem, some of it changed."""
    o, lse = built.outputs()
    tensors = {"q": built.q, "k_cache": built.k_cache, "v_cache": built.v_cache, "plan": built.plan, **changes}
    attend(tensors["q"], tensors["k_cache"], tensors["v_cache"], tensors["plan"], built.options, o, lse)
    return o, lse


def test_strided_tensors():
    built = problem(options={"window_left": 30, "window_right": 2}, value_size=24).build()
    want_o, want_lse = run(built)
    q = built.q.transpose(0, 2).contiguous().transpose(0, 2)  # the last stride is not 1
    head_major = built.q.transpose(0, 1).contiguous().transpose(0, 1)
    k_cache = built.k_cache.transpose(1, 2).contiguous().transpose(1, 2)
    wide = torch.full((*built.v_cache.shape[:3], 40), torch.nan)
    wide[..., 9:33] = built.v_cache
    for changes in ({"q": q}, {"q": head_major}, {"k_cache": k_cache}, {"v_cache": wide[..., 9:33]}):
        o, lse = run(built, **changes)
        assert torch.equal(o, want_o)
        assert torch.equal(lse, want_lse)
    o = torch.full((24, *want_o.shape[:2]), torch.nan).permute(1, 2, 0)
    lse = torch.full(want_lse.T.shape, torch.nan).T
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    assert torch.equal(o, want_o)
    assert torch.equal(lse, want_lse)


@pytest.mark.parametrize("requests", [(), ((0, 0), (0, 5)), ((3, 0),), ((20, 0),), ((0, 4), (2, 4), (0, 4))], ids=str)
@pytest.mark.parametrize("layout", Layout)
def test_empty_requests(requests, layout):
    check_forward(Problem(requests=requests, layout=layout).build(), attend)


@pytest.mark.parametrize("name", ["causal", "local", "all"])
def test_a_row_has_the_same_bits_in_any_batch(name, monkeypatch):
    built = problem(options={**OPTIONS[name], "dropout": None}).build()  # which is keyed by request
    o, lse = check_batch_invariance(built, attend)
    monkeypatch.setattr("octavo.ops.triton.forward._MAX_PARTS_BYTES", 1)  # requests take turns
    again_o, again_lse = run(built)
    assert torch.equal(again_o, o)
    assert torch.equal(again_lse, lse)


@pytest.mark.parametrize("rows", [(2, 3, 4, 5), (20, 30)], ids=["split", "whole"])
def test_chunks_give_the_same_bits(rows):
    whole = problem(requests=((sum(rows), 90),), options={"window_left": 50, "window_right": 0})
    check_chunks(whole.build(), rows, attend)


@settings(max_examples=15)
@given(
    problem=problems(50),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    has_hints=st.booleans(),
    scale=st.sampled_from([0.2, -0.2]),
)
def test_any_problem(problem, dtype, has_hints, scale):
    check_forward(replace(problem, dtype=dtype, has_hints=has_hints, scale=scale).build(), attend)
