"""Attention over a paged KV cache: checked signatures.

Legend: T tokens, H query heads, K KV heads, D key size, E value size, R requests. Caches are
(num_blocks, block_size, K, D or E) of fp32, bf16 or fp16; slot = block id · block_size + offset.
"""

import math

import torch
from torch import Tensor

from octavo.ops import table
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.checks import (
    CACHE_DTYPES,
    FLOAT_DTYPES,
    check_device,
    check_indices,
    check_positive,
    check_rank_3,
    check_tensor,
)
from octavo.ops.errors import OpArgumentError

MAX_HEAD_SIZE = 512
_MAX_WINDOW = 2**31 - 1


def store_kv(k_TKD: Tensor, v_TKE: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> None:
    """Writes the keys and values of token t to slot slots_T[t] of the caches, in place, rounded to nearest even.

    slots (T,) int64, all different.
    """
    num_tokens, num_kv_heads, key_size = check_rank_3("k", k_TKD)
    _, _, value_size = check_rank_3("v", v_TKE)
    device = k_TKD.device
    check_tensor("k", k_TKD, (None, None, None), FLOAT_DTYPES, device)
    check_tensor("v", v_TKE, (num_tokens, num_kv_heads, None), (k_TKD.dtype,), device)
    _check_caches(k_cache, v_cache, num_kv_heads, key_size, value_size, device)
    check_tensor("slots", slots_T, (num_tokens,), (torch.int64,), device)
    check_indices("slots", slots_T, k_cache.shape[0] * k_cache.shape[1])
    table.STORE_KV(k_TKD, v_TKE, k_cache, v_cache, slots_T)


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    window: int | None = None,
    softcap: float = 0.0,
    sinks_H: Tensor | None = None,
    is_causal: bool = True,
) -> Tensor:
    """o = softmax(mask(cap(scale·q·Kᵀ)))·V through the cache as stored; (T, H, E), new, of q's dtype.

    A row at position p sees keys max(0, p − window + 1) … p; where the attention is not causal, every row sees
    all keys of its request, and there is no window. cap(s) = softcap·tanh(s / softcap),
    0 for none. A sink adds e^sink to its head's denominator. Query head h reads KV head
    h // (H / K). Softmax in fp32, KV merged in tiles at fixed positions: a row's bits do not
    depend on the rest of the plan. O(T · keys · H · (D + E)).

    Raises `OpArgumentError` where the plan and the tensors disagree, or a block table would lead
    outside the cache.
    """
    num_tokens, num_heads, key_size = check_rank_3("q", q_THD)
    device = q_THD.device
    check_tensor("q", q_THD, (None, None, None), FLOAT_DTYPES, device)
    num_kv_heads, value_size = k_cache.shape[-2], v_cache.shape[-1]
    _check_caches(k_cache, v_cache, num_kv_heads, key_size, value_size, device)
    if num_kv_heads == 0 or num_heads % num_kv_heads:
        raise OpArgumentError(
            f"query heads: got {num_heads}; allowed multiples of the cache's {num_kv_heads} KV heads", param="q"
        )
    if not math.isfinite(scale):
        raise OpArgumentError(f"scale: got {scale}; allowed any finite number", param="scale")
    if window is not None and not (isinstance(window, int) and 1 <= window <= _MAX_WINDOW):
        raise OpArgumentError(
            f"window: got {window}; allowed 1 to {_MAX_WINDOW:,}, or None for no window", param="window"
        )
    if window is not None and not is_causal:
        raise OpArgumentError(f"window: got {window} with is_causal=False; allowed None", param="window")
    if softcap != 0.0:
        check_positive("softcap", softcap)
    if sinks_H is not None:
        check_tensor("sinks", sinks_H, (num_heads,), FLOAT_DTYPES, device)
    _check_plan(plan, num_tokens, k_cache)
    return table.PAGED_ATTENTION(
        q_THD,
        k_cache,
        v_cache,
        plan,
        scale=scale,
        window=window,
        softcap=softcap,
        sinks_H=sinks_H,
        is_causal=is_causal,
    )


def _check_caches(
    k_cache: Tensor, v_cache: Tensor, num_kv_heads: int, key_size: int, value_size: int, device: torch.device
) -> None:
    check_tensor("k_cache", k_cache, (None, None, num_kv_heads, key_size), CACHE_DTYPES, device)
    shape = (k_cache.shape[0], k_cache.shape[1], num_kv_heads, value_size)
    check_tensor("v_cache", v_cache, shape, (k_cache.dtype,), device)
    for name, size in (("k", key_size), ("v", value_size), ("block", k_cache.shape[1])):
        if size < 1 or (name != "block" and size > MAX_HEAD_SIZE):
            allowed = "1 or more" if name == "block" else f"1 to {MAX_HEAD_SIZE}"
            raise OpArgumentError(f"{name} size of the cache: got {size}; allowed {allowed}", param=f"{name}_cache")


def _check_plan(plan: AttentionPlan, num_tokens: int, k_cache: Tensor) -> None:
    """The plan is sound in itself: does it fit this query and this cache?"""
    check_device("plan.seq_lens", plan.seq_lens, k_cache.device)
    if plan.block_size != k_cache.shape[1]:
        raise OpArgumentError(
            f"plan.block_size: got {plan.block_size}; allowed the cache's {k_cache.shape[1]}", param="plan"
        )
    if plan.num_rows is not None and plan.num_rows != num_tokens:
        raise OpArgumentError(f"plan: its requests own {plan.num_rows} rows and q has {num_tokens}", param="plan")
    if plan.highest_block >= k_cache.shape[0]:
        raise OpArgumentError(
            f"plan.block_tables is out of range: got {plan.highest_block}; allowed 0 to {k_cache.shape[0] - 1}",
            param="plan",
        )
