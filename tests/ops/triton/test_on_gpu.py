"""The contract's grid at full size, on a GPU: `make gpu`. Skipped where there is none."""

from dataclasses import replace

import pytest
import torch
from ops.attention_problem import CAUSAL, Layout, Problem, head_scales, request_scales, sinks
from ops.triton.checks import check_backward, check_batch_invariance, check_chunks, check_forward, check_huge_scores

from octavo import ops
from octavo.ops import Dropout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

HEAD_SIZES = [1, 7, 32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256, 512]
LENGTHS = [(1, 239), (3, 799), (127, 512), (113, 203), (128, 217), (1023, 1024), (108, 256), (256, 512), (512, 256)]
HEADS = {
    "MHA": {"num_kv_heads": 6, "group": 1},
    "GQA": {"num_kv_heads": 2, "group": 3},
    "MQA": {"num_kv_heads": 1, "group": 6},
}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
OPTIONS = {
    "full": {},
    "causal": CAUSAL,
    "local": {"window_left": 65, "window_right": 33},
    "softcap": {"softcap": 15.0, "window_right": 0},
    "alibi": {"alibi_slopes": lambda p, randn: randn(len(p.rows), p.num_heads).abs() * 0.3, "window_right": 0},
    "bias": {"bias": lambda p, randn: randn(1, p.num_heads, max(p.rows), max(p.keys))},
    "sinks": {"sinks": sinks, "window_right": 0},
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
        case = sized(64, requests=(lengths,) * 2, **heads)
        check_forward(replace(case, dtype=dtype, options=options).build(), attend)


@pytest.mark.parametrize("name", ["full", "causal", "local", "softcap"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_forward_of_head_sizes(size, dtype, name):
    for lengths in ((113, 203), (1, 799)):
        case = sized(size, requests=(lengths,) * 2, dtype=dtype, options=OPTIONS[name])
        check_forward(case.build(), attend)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_backward_of_lengths(lengths, heads, options):
    case = sized(64, requests=(lengths,) * 2, **heads)
    for dtype in (torch.float16, torch.bfloat16):
        check_backward(replace(case, dtype=dtype, options=options).build(), attend, ops.attention_backward, repeats=2)


@pytest.mark.parametrize("name", ["full", "causal", "local", "softcap"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("size", HEAD_SIZES)
def test_backward_of_head_sizes(size, dtype, name):
    case = sized(size, requests=((113, 203), (256, 256)), layout=Layout.VARLEN, dtype=dtype, options=OPTIONS[name])
    check_backward(case.build(), attend, ops.attention_backward)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_requests_of_any_length(options):
    requests = ((0, 5), (1, 2000), (700, 900), (33, 0), (0, 0), (16, 300), (17, 10))
    case = sized(128, requests=requests, layout=Layout.VARLEN, options=options)
    check_forward(case.build(), attend)
    check_backward(case.build(), attend, ops.attention_backward)


@pytest.mark.parametrize("block_size", [1, 8, 16, 256])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_paged_cache(dtype, block_size):
    requests = ((1, 1), (1, 2100), (5, 900), (0, 40), (60, 60), (300, 1000))
    for name in ("causal", "local", "softcap", "alibi", "sinks"):
        case = sized(128, requests=requests, layout=Layout.PAGED, block_size=block_size, group=4, dtype=dtype)
        check_forward(replace(case, options=OPTIONS[name]).build(), attend, factor=5 if name == "alibi" else 3)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("cache_dtype", [torch.float8_e4m3fn, torch.int8], ids=["fp8", "int8"])
def test_a_scaled_cache(cache_dtype, dtype):
    options = {"k_scales": request_scales, "v_scales": head_scales, "window_right": 0}
    case = sized(128, requests=((1, 1300), (3, 900), (200, 400)), layout=Layout.PAGED, group=4, dtype=dtype)
    check_forward(replace(case, cache_dtype=cache_dtype, options=options).build(), attend, factor=3)


def test_one_row_over_128k_keys():
    case = sized(128, requests=((1, 128 * 1024),), group=4, layout=Layout.PAGED, options=CAUSAL)
    check_forward(case.build(), attend, factor=3)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ["causal", "local", "softcap"])
def test_a_row_has_the_same_bits_in_any_batch(name, dtype):
    requests = ((1, 3000), (200, 990), (17, 17), (0, 9), (5, 3), (16, 700), (1, 513))
    case = sized(128, requests=requests, group=4, layout=Layout.PAGED, dtype=dtype, options=OPTIONS[name])
    check_batch_invariance(case.build(), attend)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ["causal", "local", "softcap"])
@pytest.mark.parametrize("rows", [(1, 7, 8), (17, 100, 400, 33)], ids=["split", "whole"])
def test_chunks_give_the_same_bits(rows, name, dtype):
    whole = sized(128, requests=((sum(rows), 1500),), group=4, dtype=dtype, options=OPTIONS[name])
    check_chunks(replace(whole, layout=Layout.PAGED).build(), rows, attend)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("softcap", [0.0, 1e30])
@pytest.mark.parametrize("lengths", [(200, 300), (1, 3000)], ids=["whole", "split"])
def test_huge_scores(lengths, softcap, dtype):
    """The compiler may fuse a score's product with what is subtracted from it, which the interpreter cannot."""
    case = problem(requests=(lengths,), scale=1e4, dtype=dtype, options={**CAUSAL, "softcap": softcap})
    check_huge_scores(case.build(), attend, ops.attention_backward)
