"""Arguments have the names, order and defaults of flash-attn; every wrong one is an `OpArgumentError` that names it, before
anything is computed or written."""

import inspect

import numpy as np
import pytest
import torch

from octavo.ops import (
    OpArgumentError,
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
    merge_attn_states,
    table,
)
from octavo.ops.dispatch import Kernel, Op


def z(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


def ints(*values, dtype=torch.int32):
    return torch.tensor(values, dtype=dtype)


@pytest.fixture
def no_kernels(monkeypatch):
    """A kernel that runs is a failure."""

    def fail(*args, **kwargs):
        raise AssertionError("a kernel ran")

    for name in ("PAGED_ATTENTION", "ATTENTION_BACKWARD", "STORE_KV"):
        monkeypatch.setattr(table, name, Op((Kernel("none", lambda *args, **kwargs: True, fail),)))


def refuse(function, match, **arguments):
    with pytest.raises(OpArgumentError, match=match) as caught:
        function(**arguments)
    assert "allowed" in caught.value.message
    assert caught.value.param


OPTIONS = {
    "dropout_p": 0.0,
    "softmax_scale": None,
    "causal": False,
    "window_size": (-1, -1),
    "softcap": 0.0,
    "alibi_slopes": None,
    "deterministic": False,
    "return_attn_probs": False,
}
LENGTHS = dict.fromkeys(("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"), inspect.Parameter.empty)
REQUIRED = inspect.Parameter.empty


@pytest.mark.parametrize(
    "function, parameters",
    [
        (flash_attn_func, {**dict.fromkeys("qkv", REQUIRED), **OPTIONS}),
        (flash_attn_qkvpacked_func, {"qkv": REQUIRED, **OPTIONS}),
        (flash_attn_kvpacked_func, {"q": REQUIRED, "kv": REQUIRED, **OPTIONS}),
        (
            flash_attn_varlen_func,
            {
                **dict.fromkeys("qkv", REQUIRED),
                **LENGTHS,
                **OPTIONS,
                "block_table": None,
                "out": None,
                "seqused_k": None,
                "return_softmax_lse": False,
            },
        ),
        (
            flash_attn_varlen_qkvpacked_func,
            {"qkv": REQUIRED, "cu_seqlens": REQUIRED, "max_seqlen": REQUIRED, **OPTIONS},
        ),
        (flash_attn_varlen_kvpacked_func, {"q": REQUIRED, "kv": REQUIRED, **LENGTHS, **OPTIONS}),
        (
            flash_attn_with_kvcache,
            {
                **dict.fromkeys(("q", "k_cache", "v_cache"), REQUIRED),
                **dict.fromkeys(("k", "v", "rotary_cos", "rotary_sin", "cache_seqlens", "cache_batch_idx")),
                **dict.fromkeys(("cache_leftpad", "block_table", "softmax_scale")),
                "causal": False,
                "window_size": (-1, -1),
                "softcap": 0.0,
                "rotary_interleaved": True,
                "alibi_slopes": None,
                "num_splits": 0,
                "return_softmax_lse": False,
                "k_descale": None,
                "v_descale": None,
            },
        ),
        (merge_attn_states, dict.fromkeys(("out_a", "lse_a", "out_b", "lse_b"), REQUIRED)),
    ],
)
def test_signatures(function, parameters):
    found = inspect.signature(function).parameters
    assert [(name, found[name].default) for name in found] == list(parameters.items())


COMMON = [
    ({"softmax_scale": float("nan")}, "softmax_scale: got nan"),
    ({"softmax_scale": float("inf")}, "softmax_scale: got inf"),
    ({"softmax_scale": "1"}, "softmax_scale: got '1'"),
    ({"softcap": -1.0}, "softcap: got -1.0"),
    ({"softcap": float("nan")}, "softcap"),
    ({"softcap": float("inf")}, "softcap"),
    ({"softcap": 1e-50}, "softcap: got 1e-50"),
    ({"softcap": 1e39}, r"softcap: got 1e\+39"),
    ({"softmax_scale": 1e39}, r"softmax_scale: got 1e\+39"),
    ({"softmax_scale": -1e300}, "softmax_scale"),
    ({"causal": "no"}, "causal: got 'no'; allowed True or False"),
    ({"causal": None}, "causal: got None"),
    ({"window_size": (-2, 0)}, "window_size: got -2"),
    ({"window_size": (0, -5)}, "window_size: got -5"),
    ({"window_size": (0, 2**31)}, "window_size"),
    ({"window_size": (0.5, 1)}, "window_size: got 0.5; allowed an integer"),
    ({"window_size": (1,)}, r"window_size: got \(1,\); allowed \(left, right\)"),
    ({"window_size": (1, 2, 3)}, r"window_size: got \(1, 2, 3\)"),
    ({"window_size": 3}, "window_size: got 3"),
    ({"window_size": torch.tensor(3)}, "window_size"),
    ({"window_size": "12"}, "window_size: got '1'; allowed an integer"),
    ({"alibi_slopes": z(3)}, "alibi_slopes has the wrong shape"),
    ({"alibi_slopes": z(3, 4)}, "alibi_slopes has the wrong shape"),
    ({"alibi_slopes": z(2, 4, 1)}, "alibi_slopes has the wrong shape"),
    ({"alibi_slopes": z(4, dtype=torch.float16)}, "alibi_slopes has the wrong dtype"),
    ({"alibi_slopes": z(4).requires_grad_()}, "alibi_slopes: got a tensor that requires a gradient"),
    ({"alibi_slopes": torch.zeros(4, device="meta")}, "alibi_slopes is on the wrong"),
    ({"alibi_slopes": [0.5] * 4}, "alibi_slopes: got list"),
]
DROPOUT = [
    ({"dropout_p": 1.0}, "dropout_p: got 1.0"),
    ({"dropout_p": -0.1}, "dropout_p"),
    ({"dropout_p": float("nan")}, "dropout_p"),
    ({"deterministic": 2}, "deterministic: got 2"),
    ({"return_attn_probs": "yes"}, "return_attn_probs: got 'yes'"),
]
DENSE = [
    ({"q": z(2, 3, 4)}, r"q has the wrong shape: got \(2, 3, 4\); allowed \(batch, seqlen, heads, head_dim\)"),
    ({"q": None}, "q: got NoneType; allowed a tensor"),
    ({"q": z(2, 3, 4, 8).double()}, "q has the wrong dtype: got torch.float64; allowed .*float32.*float16.*bfloat16"),
    ({"q": z(2, 3, 4, 8).int()}, "q has the wrong dtype"),
    ({"q": z(2, 3, 4, 8).to_sparse()}, "layout torch.sparse_coo"),
    ({"q": torch.zeros(2, 3, 4, 8, device="meta")}, "q is on the wrong device: got meta; allowed cpu, cuda"),
    ({"k": torch.zeros(2, 5, 2, 8, device="meta")}, "k is on the wrong device"),
    ({"q": z(2, 3, 4, 0), "k": z(2, 5, 2, 0)}, "head size of q: got 0; allowed 1 to 512"),
    ({"q": z(2, 3, 4, 513), "k": z(2, 5, 2, 513)}, "head size of q: got 513"),
    ({"v": z(2, 5, 2, 513)}, "head size of v: got 513"),
    ({"q": z(2, 3, 4, 8).half()}, "k has the wrong dtype"),
    ({"v": z(2, 5, 2, 6).half()}, "v has the wrong dtype"),
    ({"k": z(2, 5, 2, 7)}, "k has the wrong shape"),
    ({"k": z(3, 5, 2, 8)}, "k has the wrong shape"),
    ({"v": z(2, 4, 2, 6)}, "v has the wrong shape"),
    ({"v": z(2, 5, 1, 6)}, "v has the wrong shape"),
    ({"k": z(2, 5, 3, 8), "v": z(2, 5, 3, 6)}, "query heads: got 4; allowed multiples of k's 3 heads"),
    ({"k": z(2, 5, 0, 8), "v": z(2, 5, 0, 6)}, "query heads"),
]


@pytest.mark.parametrize("changes, match", [*COMMON, *DROPOUT, *DENSE])
def test_dense(changes, match, no_kernels):
    good = {"q": z(2, 3, 4, 8), "k": z(2, 5, 2, 8), "v": z(2, 5, 2, 6)}
    refuse(flash_attn_func, match, **{**good, **changes})


VARLEN = [
    ({"q": z(1, 9, 4, 8)}, r"q has the wrong shape.*\(total tokens, heads, head_dim\)"),
    ({"q": z(9, 4, 8).double()}, "q has the wrong dtype: got torch.float64"),
    ({"k": z(12, 2, 7)}, "k has the wrong shape"),
    ({"v": z(11, 2, 6)}, "v has the wrong shape"),
    ({"cu_seqlens_q": ints(0, 5, 10)}, "cu_seqlens_q: got 10 at its end; allowed up to 9"),
    ({"cu_seqlens_k": ints(0, 5, 13)}, "cu_seqlens_k: got 13 at its end; allowed up to 12"),
    ({"cu_seqlens_q": ints(1, 5, 9)}, "cu_seqlens_q: got .*allowed rising numbers from 0 on"),
    ({"cu_seqlens_q": ints(0, 7, 5)}, "cu_seqlens_q: got .*rising"),
    ({"cu_seqlens_k": ints(0, -1, 5)}, "cu_seqlens_k: got .*rising"),
    ({"cu_seqlens_k": ints(0, 2**31 - 1, 5)}, "cu_seqlens_k: got .*rising"),
    ({"cu_seqlens_q": ints()}, "cu_seqlens_q: got no numbers"),
    ({"cu_seqlens_q": ints(0, 5, 9).float()}, "cu_seqlens_q has the wrong dtype"),
    ({"cu_seqlens_q": ints(0, 5, 9)[None]}, "cu_seqlens_q has the wrong shape"),
    ({"cu_seqlens_q": [0, 5, 9]}, "cu_seqlens_q: got list"),
    ({"cu_seqlens_k": ints(0, 5, 6, 7)}, "cu_seqlens_k has the wrong shape"),
    ({"cu_seqlens_k": None}, "cu_seqlens_k: got None"),
    ({"cu_seqlens_k": torch.zeros(3, dtype=torch.int32, device="meta")}, "cu_seqlens_k is on the wrong device"),
    ({"max_seqlen_q": 4}, "max_seqlen_q: got 4; allowed 5 or more"),
    ({"max_seqlen_k": 6}, "max_seqlen_k: got 6; allowed 7 or more"),
    ({"max_seqlen_q": 2**63}, "max_seqlen_q: got 9223372036854775808; allowed integers of 64 bits"),
    ({"max_seqlen_k": 7.5}, "max_seqlen_k: got 7.5; allowed an integer"),
    ({"seqused_k": ints(6, 1)}, "seqused_k: got .*at most"),
    ({"seqused_k": ints(-1, 1)}, "seqused_k is out of range: got -1"),
    ({"seqused_k": ints(1, 1, 1)}, "seqused_k has the wrong shape"),
    ({"out": z(9, 4, 7)}, "out has the wrong shape"),
    ({"out": z(9, 4, 6).half()}, "out has the wrong dtype"),
    ({"out": z(9, 4, 6).requires_grad_()}, "out: got a tensor that requires a gradient"),
    ({"out": z(9, 4, 6), "q": z(9, 4, 8).requires_grad_()}, "q: got a tensor that requires a gradient"),
    ({"out": z(9, 4, 6), "dropout_p": 0.5}, "dropout_p: got 0.5 with out"),
    ({"alibi_slopes": z(3, 4)}, "alibi_slopes has the wrong shape"),
]


@pytest.mark.parametrize("changes, match", [*COMMON, *DROPOUT, *VARLEN])
def test_varlen(changes, match, no_kernels):
    good = {
        "q": z(9, 4, 8),
        "k": z(12, 2, 8),
        "v": z(12, 2, 6),
        "cu_seqlens_q": ints(0, 5, 9),
        "cu_seqlens_k": ints(0, 5, 12),
        "max_seqlen_q": 5,
        "max_seqlen_k": 7,
    }
    refuse(flash_attn_varlen_func, match, **{**good, **changes})


BLOCKS = [
    ({"k": z(12, 2, 8), "v": z(12, 2, 6)}, "k has the wrong shape.*block size"),
    ({"block_table": ints(0, 1)}, "block_table has the wrong shape"),
    ({"block_table": ints(0, 1, 2)[None]}, "block_table has the wrong shape"),
    ({"block_table": ints(0, 1, 2, 3).view(2, 2).float()}, "block_table has the wrong dtype"),
    ({"block_table": ints(0, 1, 2, 4).view(2, 2)}, "block_table is out of range: got 4; allowed 0 to 3"),
    ({"block_table": ints(-1, 1, 2, 3).view(2, 2)}, "block_table is out of range: got -1"),
    ({"block_table": ints(0, 2).view(2, 1)}, "got 7 keys; allowed up to 4"),
    ({"k": z(0, 4, 2, 8), "v": z(0, 4, 2, 6)}, "got 7 keys; allowed up to 0"),
    ({"k": z(4, 0, 2, 8), "v": z(4, 0, 2, 6)}, "got 7 keys; allowed up to 0"),
    ({"cu_seqlens_k": None}, "cu_seqlens_k: got None"),
    ({"k": z(4, 4, 2, 8).requires_grad_()}, "k: got a tensor that requires a gradient, and attention through a block"),
    ({"q": z(9, 4, 8).requires_grad_()}, "q: got a tensor that requires a gradient"),
    ({"seqused_k": ints(5, 9), "cu_seqlens_k": None, "max_seqlen_k": 9}, "got 9 keys; allowed up to 8"),
]


@pytest.mark.parametrize("changes, match", BLOCKS)
def test_blocks(changes, match, no_kernels):
    good = {
        "q": z(9, 4, 8),
        "k": z(4, 4, 2, 8),
        "v": z(4, 4, 2, 6),
        "cu_seqlens_q": ints(0, 5, 9),
        "cu_seqlens_k": ints(0, 5, 12),
        "max_seqlen_q": 5,
        "max_seqlen_k": 7,
        "block_table": ints(0, 1, 2, 3).view(2, 2),
    }
    refuse(flash_attn_varlen_func, match, **{**good, **changes})


SHARED = z(3, 9, 2, 6)
CACHE = [
    ({"q": z(2, 3, 4)}, "q has the wrong shape"),
    ({"q": z(2, 3, 4, 8).double()}, "q has the wrong dtype: got torch.float64"),
    ({"q": z(2, 3, 4, 8).requires_grad_()}, "q: got a tensor that requires a gradient"),
    ({"k": z(2, 3, 2, 8).requires_grad_()}, "k: got a tensor that requires a gradient"),
    ({"k_cache": z(3, 9, 2, 8).requires_grad_()}, "k_cache: got a tensor that requires a gradient"),
    ({"k_cache": z(3, 9, 2, 7)}, "k_cache has the wrong shape"),
    ({"k_cache": z(3, 9, 2, 8).half()}, "k_cache has the wrong dtype"),
    ({"v_cache": z(3, 8, 2, 6)}, "v_cache has the wrong shape"),
    ({"v_cache": z(3, 9, 2, 6).half()}, "v_cache has the wrong dtype"),
    ({"k_cache": z(3, 9, 3, 8), "v_cache": z(3, 9, 3, 6)}, "query heads"),
    ({"k_cache": z(1, 9, 2, 8), "v_cache": z(1, 9, 2, 6)}, "k_cache: got 1 rows; allowed q's 2 or more"),
    (
        {"rotary_cos": z(9, 4).requires_grad_(), "rotary_sin": z(9, 4)},
        "rotary_cos: got a tensor that requires a gradient",
    ),
    ({"k": [1.0]}, "k: got list"),
    ({"k": None}, "k and v: got one of them"),
    ({"v": None}, "k and v: got one of them"),
    ({"k": None, "v": None, "rotary_cos": z(9, 4), "rotary_sin": z(9, 4)}, "rotary_cos without them"),
    ({"k": z(3, 3, 2, 8), "v": z(3, 3, 2, 6)}, "k has the wrong shape"),
    ({"k": z(2, 3, 1, 8), "v": z(2, 3, 1, 6)}, "k has the wrong shape"),
    ({"v": z(2, 3, 2, 5)}, "v has the wrong shape"),
    ({"v": z(2, 2, 2, 6)}, "v has the wrong shape"),
    ({"k": z(2, 3, 2, 8).half()}, "k has the wrong dtype"),
    ({"cache_seqlens": None}, "cache_seqlens: got None with new keys"),
    ({"cache_seqlens": 7}, "cache_seqlens: got 7, and 3 new keys; allowed 9 together"),
    ({"cache_seqlens": ints(0, 7)}, "cache_seqlens: got 7, and 3 new keys"),
    ({"cache_seqlens": ints(0, 2**31 - 1)}, "cache_seqlens: got 2147483647"),
    ({"cache_seqlens": ints(0, -1)}, "cache_seqlens is out of range: got -1"),
    ({"cache_seqlens": -1}, "cache_seqlens is out of range: got -1"),
    ({"cache_seqlens": 2**63}, "cache_seqlens: got 9223372036854775808; allowed integers of 64 bits"),
    ({"cache_seqlens": ints(0)}, "cache_seqlens has the wrong shape"),
    ({"cache_seqlens": ints(0, 1).float()}, "cache_seqlens has the wrong dtype"),
    ({"cache_seqlens": 1.5}, "cache_seqlens: got 1.5; allowed an integer"),
    ({"cache_batch_idx": ints(0, 3)}, "cache_batch_idx is out of range: got 3; allowed 0 to 2"),
    ({"cache_batch_idx": ints(-1, 1)}, "cache_batch_idx is out of range: got -1"),
    ({"cache_batch_idx": ints(1, 1)}, "cache_batch_idx: got one part of the cache for the new tokens"),
    ({"cache_batch_idx": ints(1)}, "cache_batch_idx has the wrong shape"),
    ({"cache_batch_idx": ints(0, 1), "block_table": ints(0, 1)[:, None]}, "beside a block_table"),
    ({"block_table": ints(0, 0)[:, None]}, "block_table: got one part of the cache for the new tokens"),
    ({"block_table": ints(0, 1, 2, 1).view(2, 2), "cache_seqlens": ints(9, 9)}, "block_table: got one part"),
    ({"block_table": ints(0, 1, 1, 2).view(2, 2), "cache_seqlens": ints(10, 3)}, "block_table: got one part"),
    ({"block_table": ints(0, 0, 1, 2).view(2, 2), "cache_seqlens": ints(10, 3)}, "block_table: got one part"),
    ({"block_table": ints(0, 3)[:, None]}, "block_table is out of range: got 3"),
    ({"block_table": ints(0, 1)}, "block_table has the wrong shape"),
    ({"cache_leftpad": ints(0, 5)}, "cache_leftpad: got .*allowed 0 up to cache_seqlens"),
    ({"cache_leftpad": ints(-1, 0)}, "cache_leftpad"),
    ({"cache_leftpad": ints(0)}, "cache_leftpad has the wrong shape"),
    ({"rotary_cos": z(9, 4)}, "rotary_sin: got NoneType"),
    ({"rotary_sin": z(9, 4)}, "rotary_cos: got NoneType"),
    ({"rotary_cos": z(9, 5), "rotary_sin": z(9, 5)}, "rotary_cos: got 5 angles; allowed up to half the head size 8"),
    ({"rotary_cos": z(9, 4), "rotary_sin": z(9, 3)}, "rotary_sin has the wrong shape"),
    ({"rotary_cos": z(9, 4).half(), "rotary_sin": z(9, 4).half()}, "rotary_cos has the wrong dtype"),
    ({"rotary_cos": z(6, 4), "rotary_sin": z(6, 4)}, "rotary_cos: got 6 positions; allowed 7 or more"),
    ({"num_splits": 2}, "num_splits: got 2; allowed 0 or 1"),
    ({"num_splits": -1}, "num_splits"),
    ({"rotary_interleaved": "no"}, "rotary_interleaved: got 'no'"),
    ({"return_softmax_lse": 1.0}, "return_softmax_lse: got 1.0"),
    ({"k_cache": z(1, 9, 2, 8).expand(3, -1, -1, -1)}, r"k_cache: got strides .* overlap"),
    ({"v_cache": z(3, 9, 1, 6).expand(-1, -1, 2, -1)}, r"v_cache: got strides .* overlap"),
    ({"k": z(2, 3, 2, 6), "q": z(2, 3, 4, 6), "k_cache": SHARED, "v_cache": SHARED}, "v_cache: got k_cache's memory"),
    ({"k_descale": z(2), "v_descale": z(2)}, "k_descale: got scales for a cache of torch.float32"),
]


@pytest.mark.parametrize("changes, match", [*COMMON, *CACHE])
def test_kvcache(changes, match, no_kernels):
    good = {
        "q": z(2, 3, 4, 8),
        "k_cache": z(3, 9, 2, 8),
        "v_cache": z(3, 9, 2, 6),
        "k": torch.ones(2, 3, 2, 8),
        "v": torch.ones(2, 3, 2, 6),
        "cache_seqlens": ints(0, 4),
    }
    arguments = {**good, **changes}
    refuse(flash_attn_with_kvcache, match, **arguments)
    assert not arguments["k_cache"].any()
    assert not arguments["v_cache"].any()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize(
    "changes, match",
    [
        ({}, "k_descale: got none"),
        ({"k_descale": torch.ones(2)}, "v_descale: got none"),
        ({"k_descale": torch.ones(3), "v_descale": torch.ones(2)}, "k_descale has the wrong shape"),
        ({"k_descale": torch.ones(2), "v_descale": torch.ones(3, 2)}, "v_descale has the wrong shape"),
        ({"k_descale": torch.ones(2).half(), "v_descale": torch.ones(2)}, "k_descale has the wrong dtype"),
        ({"k_descale": torch.zeros(2), "v_descale": torch.ones(2)}, "k_descale: got .* allowed finite numbers above 0"),
        ({"k_descale": torch.ones(2), "v_descale": ints(1, -1).float()}, "v_descale: got"),
        ({"k_descale": torch.ones(2) / 0, "v_descale": torch.ones(2)}, "k_descale: got"),
    ],
)
def test_scales(dtype, changes, match, no_kernels):
    cache = z(2, 9, 2, 8, dtype=dtype)
    refuse(flash_attn_with_kvcache, match, q=z(2, 1, 4, 8), k_cache=cache, v_cache=cache, **changes)


@pytest.mark.parametrize(
    "function, arguments",
    [
        (flash_attn_qkvpacked_func, {"qkv": z(2, 5, 2, 4, 8)}),
        (flash_attn_qkvpacked_func, {"qkv": z(2, 5, 3, 4)}),
        (flash_attn_qkvpacked_func, {"qkv": None}),
        (flash_attn_kvpacked_func, {"q": z(2, 5, 4, 8), "kv": z(2, 5, 3, 4, 8)}),
        (flash_attn_varlen_qkvpacked_func, {"qkv": z(5, 4, 8), "cu_seqlens": ints(0, 5), "max_seqlen": 5}),
        (
            flash_attn_varlen_kvpacked_func,
            {
                "q": z(5, 4, 8),
                "kv": z(5, 3, 4, 8),
                "cu_seqlens_q": ints(0, 5),
                "cu_seqlens_k": ints(0, 5),
                "max_seqlen_q": 5,
                "max_seqlen_k": 5,
            },
        ),
    ],
)
def test_packed(function, arguments, no_kernels):
    refuse(function, "qkv|kv", **arguments)


def test_what_flash_attn_takes_is_taken():
    """NumPy's numbers, windows as a tensor, lengths as int64, requests that read one row of the cache, requires_grad without gradients."""
    q, k = z(2, 3, 4, 8), z(2, 5, 2, 8)
    flash_attn_func(q, k, k, window_size=torch.tensor([3, 1]), causal=True, deterministic=True)
    flash_attn_func(q, k, k, alibi_slopes=z(2, 4), softmax_scale=1)
    flash_attn_func(q, k, k, window_size=np.array([3, 1]), softmax_scale=np.float32(0.5), softcap=np.int64(2))
    assert torch.equal(flash_attn_func(q, k, k, window_size=None), flash_attn_func(q, k, k))
    cache = z(3, 9, 2, 8)
    shared = ints(0, 1, 0, 2).view(2, 2)  # a whole block of both, which nobody writes to
    flash_attn_with_kvcache(q, cache, cache.clone(), k, k, block_table=shared, cache_seqlens=ints(9, 10))
    flash_attn_with_kvcache(q, cache, cache, cache_batch_idx=ints(1, 1), cache_seqlens=ints(3, 9), num_splits=1)
    with torch.no_grad():
        flash_attn_with_kvcache(q.clone().requires_grad_(), cache, cache)
    numbers = ints(0, 3, 6, dtype=torch.int64)
    flat = [x.flatten(0, 1) for x in (q, k, k)]
    flash_attn_varlen_func(*flat, numbers, numbers, torch.tensor(3), torch.tensor(3))


def test_memory_that_is_written_is_written_by_one_value_alone(no_kernels):
    starts = torch.tensor([0, 4, 10], dtype=torch.int32)
    q, k, v = (torch.randn(10, 4, 8) for _ in range(3))
    for out in (
        torch.randn(1, 4, 8).expand(10, 4, 8),
        torch.zeros(200).as_strided((10, 4, 8), (8, 4, 1)),
        q,
        k,
        v[:, :],
    ):
        with pytest.raises(OpArgumentError, match="out: got"):
            flash_attn_varlen_func(q, k, v, starts, starts, 6, 6, out=out)
    cache, new = torch.randn(2, 10, 2, 8), torch.randn(2, 3, 2, 8)
    with pytest.raises(OpArgumentError, match="k_cache: got memory of q"):
        flash_attn_with_kvcache(cache[:, 2:5], cache, cache.clone(), new, new.clone(), cache_seqlens=2)
    with pytest.raises(OpArgumentError, match="elements overlap"):
        flash_attn_with_kvcache(new, cache[:1].expand(2, 10, 2, 8), cache, new, new, cache_seqlens=2)


def test_numbers_that_int32_does_not_hold_are_not_cut(no_kernels):
    q, far = torch.randn(8, 2, 8), 1 << 32
    k = torch.zeros(1, 2, 8).expand(far + 8, 2, 8)
    starts_q, starts_k = torch.tensor([0, 0, 8]), torch.tensor([0, far, far + 8])
    with pytest.raises(OpArgumentError, match="cu_seqlens_k is out of range: got 4294967304"):
        flash_attn_varlen_func(q, k, k, starts_q, starts_k, 8, far, seqused_k=torch.tensor([0, 8]))
    cache = torch.zeros(1, 1, 2, 8).expand(1, far + 16, 2, 8)
    with pytest.raises(OpArgumentError, match="cache_seqlens"):
        flash_attn_with_kvcache(q[None], cache, cache, cache_seqlens=torch.tensor([far + 8]))
    with pytest.raises(OpArgumentError, match="k's keys: got 4294967312"):
        flash_attn_func(q[None], cache, cache)


def test_messages_stay_short(no_kernels):
    q, starts = torch.randn(8, 2, 8), torch.arange(100_000, 0, -1)
    with pytest.raises(OpArgumentError, match="100000 in all") as caught:
        flash_attn_varlen_func(q, q, q, starts, starts, 8, 8)
    assert len(caught.value.message) < 300


def test_forward_mode_is_refused(no_kernels):
    q = torch.randn(1, 5, 2, 8)
    with pytest.raises(OpArgumentError, match="no forward-mode derivative"):
        torch.func.jvp(lambda q: flash_attn_func(q, q, q), (q,), (q,))
