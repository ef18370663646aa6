"""Attention of new rows over a KV cache, and growing it, under flash-attn's name.

Legend: B batch, S rows, N new keys, C tokens of the cache, H query heads, K KV heads, D key size, E value size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.ops.checks import SCALED_CACHE_DTYPES, check_shape
from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn.checks import (
    check_alibi_slopes,
    check_integers,
    check_is_tensor,
    check_keys_and_values,
    check_queries,
    check_traceable_tensor,
    refuse_gradient,
)
from octavo.ops.flash_attn.kvcache_ops import flash_attn_append_kvcache, flash_attn_kvcache
from octavo.ops.flash_attn.results import AttentionAndLse, lse_by_request
from octavo.ops.flash_attn.rotary import check_rotary_tables
from octavo.ops.flash_attn.settings import check_flags, index, resolve_settings

_LAYOUT = ("batch", "seqlen", "heads", "head_dim")
_NEW_LAYOUT = ("batch", "new tokens", "KV heads", "head_dim")
_CACHE_LAYOUT = ("cache batch", "cache seqlen", "KV heads", "head_dim")
_BLOCK_LAYOUT = ("blocks", "block size", "KV heads", "head_dim")


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
    *,
    k_descale: Tensor | None = None,
    v_descale: Tensor | None = None,
) -> Tensor | AttentionAndLse:
    """`flash_attn_func` of q over each request's keys in a cache, after its new keys, if any, were appended there in place.

    Request b's keys are tokens cache_leftpad[b] … cache_seqlens[b] + N − 1 of row cache_batch_idx[b] (default b) of the
    cache, or of its blocks in `block_table` (B, blocks of each), of any size ≥ 1; entries of other blocks may be anything.
    cache_seqlens counts what was there before, the padding on the left included: int or (B,); by default all of the cache.
    k (B, N, K, D) and v (B, N, K, E) go to tokens cache_seqlens[b] …, k rotated to those positions where rotary_cos and rotary_sin
    (positions, R/2), of q's dtype, are given. The rows of q are rotated to the same positions if causal or a window is set,
    all to cache_seqlens[b] otherwise. `rotary_interleaved` pairs elements 2i and 2i + 1, else i and i + R/2.

    q (B, S, H, D); caches (rows, C, K, D) and (rows, C, K, E), or (blocks, block size, …), of q's dtype, or of fp8 (e4m3) or
    int8 with `k_descale` and `v_descale`, fp32 (K,) or (B, K), which the cache is multiplied with; appending divides by them.
    All integers int32 or int64. num_splits is 0 or 1: keys are split at fixed positions, never into a count.

    Returns o (B, S, H, E), and with `return_softmax_lse` softmax_lse, fp32 (B, H, S). No backward pass. Raises `OpArgumentError`;
    nothing was written then.
    """
    check_queries("q", q, _LAYOUT)
    batch = q.shape[0]
    layout = _CACHE_LAYOUT if block_table is None else _BLOCK_LAYOUT
    check_keys_and_values(
        q, k_cache, v_cache, layout, names=("k_cache", "v_cache"), dtypes=(q.dtype, *SCALED_CACHE_DTYPES)
    )
    _check_which_tokens(q, k_cache, cache_batch_idx, cache_leftpad, block_table)
    _check_scales(q, k_cache, k_descale, v_descale)
    check_alibi_slopes(alibi_slopes, q, batch)
    if index("num_splits", num_splits) not in (0, 1):
        raise OpArgumentError(
            f"num_splits: got {num_splits}; allowed 0 or 1, which are the same: keys are split at fixed positions, so that "
            "results do not depend on a count",
            param="num_splits",
        )
    check_flags(rotary_interleaved=rotary_interleaved, return_softmax_lse=return_softmax_lse)
    settings = resolve_settings(
        q.shape[-1], softmax_scale=softmax_scale, causal=causal, window_size=window_size, softcap=softcap
    )
    tables = {"rotary_cos": rotary_cos, "rotary_sin": rotary_sin, "k_descale": k_descale, "v_descale": v_descale}
    refuse_gradient("attention over a KV cache", q=q, k_cache=k_cache, v_cache=v_cache, k=k, v=v, **tables)
    lengths = _lengths(q, k_cache, cache_seqlens, block_table, is_appending=k is not None)
    which = cache_batch_idx, cache_leftpad, block_table
    common = *lengths, *which, alibi_slopes, k_descale, v_descale, *settings[:4]
    if k is None or v is None:
        if k is not v or rotary_cos is not None or rotary_sin is not None:
            raise OpArgumentError("k and v: got one of them, or rotary_cos without them; allowed both", param="k")
        out, lse_HT = flash_attn_kvcache(q, k_cache, v_cache, *common)
    else:
        _check_new(q, k_cache, v_cache, k, v, rotary_cos, rotary_sin)
        new = k, v, rotary_cos, rotary_sin
        out, lse_HT = flash_attn_append_kvcache(q, k_cache, v_cache, *new, *common, rotary_interleaved)
    if not return_softmax_lse:
        return out
    return AttentionAndLse(out, lse_by_request(lse_HT, q.shape[:2]))


class _Lengths(NamedTuple):
    """How many tokens of each request the cache held before, (B,), and of the longest; None: known on the device only."""

    cache_seqlens: Tensor
    longest: int | None


def _lengths(
    q: Tensor, k_cache: Tensor, cache_seqlens: int | Tensor | None, block_table: Tensor | None, *, is_appending: bool
) -> _Lengths:
    if isinstance(cache_seqlens, Tensor):
        check_integers("cache_seqlens", cache_seqlens, (q.shape[0],), q.device)
        return _Lengths(cache_seqlens, None)
    if cache_seqlens is None:
        if is_appending:
            raise OpArgumentError(
                "cache_seqlens: got None with new keys; allowed the length of each request, behind which they go",
                param="cache_seqlens",
            )
        cache_seqlens = k_cache.shape[1] * (1 if block_table is None else block_table.shape[1])
    length = index("cache_seqlens", cache_seqlens)
    return _Lengths(torch.full((q.shape[0],), length, dtype=torch.int64, device=q.device), length)


def _check_which_tokens(
    q: Tensor,
    k_cache: Tensor,
    cache_batch_idx: Tensor | None,
    cache_leftpad: Tensor | None,
    block_table: Tensor | None,
) -> None:
    batch = q.shape[0]
    if cache_leftpad is not None:
        check_integers("cache_leftpad", cache_leftpad, (batch,), q.device)
    if block_table is not None:
        check_integers("block_table", block_table, (batch, None), q.device)
    if cache_batch_idx is not None:
        check_integers("cache_batch_idx", cache_batch_idx, (batch,), q.device)
        if block_table is not None:
            raise OpArgumentError(
                "cache_batch_idx: got rows of the cache beside a block_table; allowed one of them",
                param="cache_batch_idx",
            )
    elif block_table is None and batch > k_cache.shape[0]:
        raise OpArgumentError(
            f"k_cache: got {k_cache.shape[0]} rows; allowed q's {batch} or more, or a cache_batch_idx", param="k_cache"
        )


def _check_new(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor,
    v: Tensor,
    rotary_cos: Tensor | None,
    rotary_sin: Tensor | None,
) -> None:
    check_keys_and_values(q, k, v, _NEW_LAYOUT, num_requests=q.shape[0])
    check_shape("k", k, (None, None, k_cache.shape[-2], None))
    check_shape("v", v, (None, None, None, v_cache.shape[-1]))
    if rotary_cos is not None or rotary_sin is not None:
        tables = check_is_tensor("rotary_cos", rotary_cos), check_is_tensor("rotary_sin", rotary_sin)
        check_rotary_tables(q, *tables, ("rotary_cos", "rotary_sin"))


def _check_scales(q: Tensor, k_cache: Tensor, k_descale: Tensor | None, v_descale: Tensor | None) -> None:
    """fp32 (K,) or (B, K), for caches of bytes and no other."""
    is_scaled = k_cache.dtype in SCALED_CACHE_DTYPES
    for name, scales in (("k_descale", k_descale), ("v_descale", v_descale)):
        if (scales is not None) != is_scaled:
            raise OpArgumentError(
                f"{name}: got {'none' if scales is None else 'scales'} for a cache of {k_cache.dtype}; allowed with caches "
                f"of {' and '.join(map(str, SCALED_CACHE_DTYPES))}, and needed there",
                param=name,
            )
        if scales is not None:
            check_is_tensor(name, scales)
            num_kv_heads = k_cache.shape[-2]
            shape = (num_kv_heads,) if scales.dim() == 1 else (q.shape[0], num_kv_heads)
            check_traceable_tensor(name, scales, shape, (torch.float32,), q.device)
