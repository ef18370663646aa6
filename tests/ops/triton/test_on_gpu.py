"""The contract's grid at full size, on a GPU: `make gpu`. Skipped where there is none."""

from dataclasses import replace

import pytest
import torch
from ops.triton.problems import Layout, Problem, check_backward, check_batch_invariance, check_chunks, check_forward

from octavo import ops
from octavo.ops import Dropout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

HEAD_SIZES = [1, 7, 32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256, 512]
LENGTHS = [(1, 239), (3, 799), (127, 512), (113, 203), (128, 217), (1023, 1024), (108, 256), (256, 512), (512, 256)]
HEADS = {"MHA": (6, 6), "GQA": (6, 2), "MQA": (6, 1)}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
OPTIONS = {
    "full": {},
    "causal": {"window_right": 0},
    "local": {"window_left": 65, "window_right": 33},
    "softcap": {"softcap": 15.0, "window_right": 0},
    "alibi": {"alibi_slopes": lambda p, randn: randn(len(p.rows), p.num_heads).abs() * 0.3, "window_right": 0},
    "bias": {"bias": lambda p, randn: randn(1, p.num_heads, max(p.rows), max(p.keys))},
    "sinks": {"sinks": lambda p, randn: randn(p.num_heads), "window_right": 0},
    "dropout": {"dropout": Dropout(probability=0.17, seed=1234567890123), "window_right": 0},
}


def attend(q, k_cache, v_cache, plan, options, o, lse):
    ops.paged_attention(q, k_cache, v_cache, plan, options, out=o, lse_HT=lse)


def problem(**changes):
    return Problem(**{"dtype": torch.bfloat16, "layout": Layout.DENSE, "device": "cuda", **changes})


def sized(size, **changes):
    return problem(key_size=size, value_size=size, scale=size**-0.5, **changes)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_forward_of_lengths(lengths, heads, options):
    for dtype in (torch.float16, torch.bfloat16):
        case = sized(64, rows=(lengths[0],) * 2, keys=(lengths[1],) * 2, num_heads=heads[0], num_kv_heads=heads[1])
        check_forward(replace(case, dtype=dtype, options=options).build(), attend)


@pytest.mark.parametrize("name", ["full", "causal", "local", "softcap"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_forward_of_head_sizes(size, dtype, name):
    for lengths in ((113, 203), (1, 799)):
        case = sized(size, rows=(lengths[0],) * 2, keys=(lengths[1],) * 2, dtype=dtype, options=OPTIONS[name])
        check_forward(case.build(), attend)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_backward_of_lengths(lengths, heads, options):
    case = sized(64, rows=(lengths[0],) * 2, keys=(lengths[1],) * 2, num_heads=heads[0], num_kv_heads=heads[1])
    for dtype in (torch.float16, torch.bfloat16):
        check_backward(replace(case, dtype=dtype, options=options).build(), attend, ops.attention_backward, repeats=2)


@pytest.mark.parametrize("name", ["full", "causal", "local", "softcap"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_backward_of_head_sizes(size, dtype, name):
    case = sized(size, rows=(113, 256), keys=(203, 256), layout=Layout.VARLEN, dtype=dtype, options=OPTIONS[name])
    check_backward(case.build(), attend, ops.attention_backward)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_requests_of_any_length(options):
    case = sized(
        128, rows=(0, 1, 700, 33, 0, 16, 17), keys=(5, 2000, 900, 0, 0, 300, 10), layout=Layout.VARLEN, options=options
    )
    check_forward(case.build(), attend)
    check_backward(case.build(), attend, ops.attention_backward)


@pytest.mark.parametrize("block_size", [1, 8, 16, 256])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_paged_cache(dtype, block_size):
    rows, keys = (1, 1, 5, 0, 60, 300), (1, 2100, 900, 40, 60, 1000)
    for name in ("causal", "local", "softcap", "alibi", "sinks"):
        case = sized(128, rows=rows, keys=keys, layout=Layout.PAGED, block_size=block_size, num_heads=8, dtype=dtype)
        check_forward(replace(case, options=OPTIONS[name]).build(), attend, factor=5.0 if name == "alibi" else 3.0)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("cache_dtype", [torch.float8_e4m3fn, torch.int8], ids=["fp8", "int8"])
def test_a_scaled_cache(cache_dtype, dtype):
    unit = 1.0 if cache_dtype == torch.float8_e4m3fn else 1 / 40
    scales = {
        "k_scales": lambda p, randn: (0.5 + randn(len(p.rows), p.num_kv_heads).abs()) * unit,
        "v_scales": lambda p, randn: (0.5 + randn(p.num_kv_heads).abs()) * unit,
    }
    options = {**scales, "window_right": 0}
    case = sized(128, rows=(1, 3, 200), keys=(1300, 900, 400), layout=Layout.PAGED, num_heads=8, dtype=dtype)
    check_forward(replace(case, cache_dtype=cache_dtype, options=options).build(), attend, factor=3.0)


def test_one_row_over_128k_keys():
    case = sized(128, rows=(1,), keys=(128 * 1024,), num_heads=8, layout=Layout.PAGED, options=OPTIONS["causal"])
    check_forward(case.build(), attend, factor=3.0)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ["causal", "local", "softcap"])
def test_a_row_has_the_same_bits_in_any_batch(name, dtype):
    rows, keys = (1, 200, 17, 0, 5, 16, 1), (3000, 990, 17, 9, 3, 700, 513)
    case = sized(128, rows=rows, keys=keys, num_heads=8, layout=Layout.PAGED, dtype=dtype, options=OPTIONS[name])
    check_batch_invariance(case.build(), attend)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ["causal", "local", "softcap"])
@pytest.mark.parametrize("rows", [(1, 7, 8), (17, 100, 400, 33)], ids=["split", "whole"])
def test_chunks_give_the_same_bits(rows, name, dtype):
    whole = sized(128, rows=(sum(rows),), keys=(1500,), num_heads=8, dtype=dtype, options=OPTIONS[name])
    check_chunks(replace(whole, layout=Layout.PAGED).build(), rows, attend)
