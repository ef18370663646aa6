"""Attention over a paged KV cache: checked signatures.

Legend: T tokens, H query heads, K KV heads, D key size, E value size, R requests. Caches are
(num_blocks, block_size, K, D or E) of fp32, bf16 or fp16, or of scaled fp8 or int8; slot = block id · block_size + offset.
"""

import torch
from torch import Tensor

from octavo.ops import table
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.checks import (
    CACHE_DTYPES,
    FLOAT_DTYPES,
    MAX_INT32,
    SCALED_CACHE_DTYPES,
    check_device,
    check_distinct_memory,
    check_dropout,
    check_indices,
    check_rank_3,
    check_scale,
    check_softcap,
    check_tensor,
)
from octavo.ops.errors import OpArgumentError

MAX_HEAD_SIZE = 512


def store_kv(
    k_TKD: Tensor,
    v_TKE: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
) -> None:
    """Writes the keys and values of token t to slot slots_T[t] of the caches, in place, rounded to nearest even.

    slots (T,) int64, all different. Caches of fp8 (e4m3) or int8 get x / scale, saturated, with fp32 scales (K,).
    """
    num_tokens, num_kv_heads, key_size = check_rank_3("k", k_TKD)
    _, _, value_size = check_rank_3("v", v_TKE)
    device = k_TKD.device
    check_tensor("k", k_TKD, (None, None, None), FLOAT_DTYPES, device)
    check_tensor("v", v_TKE, (num_tokens, num_kv_heads, None), (k_TKD.dtype,), device)
    _check_caches(k_cache, v_cache, num_kv_heads, key_size, value_size, device)
    check_tensor("slots", slots_T, (num_tokens,), (torch.int64,), device)
    check_indices("slots", slots_T, k_cache.shape[0] * k_cache.shape[1])
    _check_are_scaled(k_cache, k_scales, v_scales)
    for name, scales in (("k_scales", k_scales), ("v_scales", v_scales)):
        if scales is not None:
            check_tensor(name, scales, (num_kv_heads,), (torch.float32,), device)
    table.STORE_KV(k_TKD, v_TKE, k_cache, v_cache, slots_T, k_scales, v_scales)


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    out: Tensor | None = None,
    lse_HT: Tensor | None = None,
) -> Tensor:
    """o = softmax(scores of `AttentionOptions`)·V through the cache as stored; (T, H, E) of q's dtype.

    Written to `out` where that is given; the natural logarithms of the softmax's denominators to `lse_HT`, fp32. Query head h
    reads KV head h // (H / K). Softmax in fp32, KV merged in tiles at fixed positions: a row's bits do not
    depend on the rest of the plan. A cache of fp8 (e4m3) or int8 has scales. O(T · keys · H · (D + E)).

    Raises `OpArgumentError` where the arguments disagree, or a block table would lead outside the cache.
    """
    num_tokens, num_heads, _ = _check_attention(q_THD, k_cache, v_cache, plan, options)
    device, shape = q_THD.device, (num_tokens, num_heads, v_cache.shape[-1])
    if out is None:
        out = q_THD.new_empty(shape)
    else:
        check_tensor("out", out, shape, (q_THD.dtype,), device)
        check_distinct_memory("out", out)
    if lse_HT is not None:
        check_tensor("lse", lse_HT, (num_heads, num_tokens), (torch.float32,), device)
    table.PAGED_ATTENTION(q_THD, k_cache, v_cache, plan, options, o_THE=out, lse_HT=lse_HT)
    return out


def attention_backward(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    dlse_HT: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv of `paged_attention`, whose o and lse are given, and their gradients; P is computed again (Dao 2023, algorithm 2).

    Of the dtypes and shapes of q and of the caches; a slot that no row sees gets 0. Sums in a fixed order: the same arguments
    give the same bits. Every slot belongs to one request, which is checked on a CPU. No gradients of slopes, bias, sinks and
    scales. O(T · keys · H · (D + E)), memory O(T + slots). Raises `OpArgumentError`.
    """
    num_tokens, num_heads, _ = _check_attention(q_THD, k_cache, v_cache, plan, options)
    shape = (num_tokens, num_heads, v_cache.shape[-1])
    check_tensor("do", do_THE, shape, (q_THD.dtype,), q_THD.device)
    check_tensor("o", o_THE, shape, (q_THD.dtype,), q_THD.device)
    check_tensor("lse", lse_HT, (num_heads, num_tokens), (torch.float32,), q_THD.device)
    if dlse_HT is not None:
        check_tensor("dlse", dlse_HT, (num_heads, num_tokens), (torch.float32,), q_THD.device)
    if k_cache.dtype != q_THD.dtype:
        raise OpArgumentError(
            f"k_cache has the wrong dtype for a gradient: got {k_cache.dtype}; allowed q's {q_THD.dtype}",
            param="k_cache",
        )
    if q_THD.device.type == "cpu" and plan.are_slots_shared(options.window_left):
        raise OpArgumentError(
            "plan.block_tables: got one slot for the keys of two places, whose gradients would be one; allowed a slot for each; "
            "copy what is shared",
            param="plan",
        )
    return table.ATTENTION_BACKWARD(do_THE, q_THD, k_cache, v_cache, o_THE, lse_HT, plan, options, dlse_HT=dlse_HT)


def _check_attention(
    q_THD: Tensor, k_cache: Tensor, v_cache: Tensor, plan: AttentionPlan, options: AttentionOptions
) -> tuple[int, int, int]:
    """The sizes of q."""
    num_tokens, num_heads, key_size = check_rank_3("q", q_THD)
    device = q_THD.device
    check_tensor("q", q_THD, (None, None, None), FLOAT_DTYPES, device)
    num_kv_heads, value_size = k_cache.shape[-2], v_cache.shape[-1]
    _check_caches(k_cache, v_cache, num_kv_heads, key_size, value_size, device)
    if num_kv_heads == 0 or num_heads % num_kv_heads:
        raise OpArgumentError(
            f"query heads: got {num_heads}; allowed multiples of the cache's {num_kv_heads} KV heads", param="q"
        )
    _check_options(options, plan, num_heads, num_kv_heads, device)
    _check_are_scaled(k_cache, options.k_scales, options.v_scales)
    _check_plan(plan, num_tokens, k_cache)
    return num_tokens, num_heads, key_size


def _check_options(
    options: AttentionOptions, plan: AttentionPlan, num_heads: int, num_kv_heads: int, device: torch.device
) -> None:
    check_scale("scale", options.scale)
    check_softcap(options.softcap)
    for name in ("window_left", "window_right"):
        window = getattr(options, name)
        if window is not None and not (isinstance(window, int) and 0 <= window <= MAX_INT32):
            raise OpArgumentError(f"{name}: got {window}; allowed 0 to {MAX_INT32:,}, or None for no bound", param=name)
    if options.sinks is not None:
        check_tensor("sinks", options.sinks, (num_heads,), FLOAT_DTYPES, device)
    for name, size in (("alibi_slopes", num_heads), ("k_scales", num_kv_heads), ("v_scales", num_kv_heads)):
        tensor = getattr(options, name)
        if tensor is not None:
            shape = (size,) if tensor.dim() == 1 else (plan.num_requests, size)
            check_tensor(name, tensor, shape, (torch.float32,), device)
    if options.bias is not None:
        _check_bias(options.bias, plan, num_heads, device)
    if options.dropout is not None:
        check_dropout("dropout", options.dropout.probability)


def _check_are_scaled(k_cache: Tensor, k_scales: Tensor | None, v_scales: Tensor | None) -> None:
    is_scaled = k_cache.dtype in SCALED_CACHE_DTYPES
    if (k_scales is None or v_scales is None) if is_scaled else (k_scales is not None or v_scales is not None):
        raise OpArgumentError(
            f"k_scales and v_scales belong to caches of {' and '.join(map(str, SCALED_CACHE_DTYPES))}, both of them; "
            f"got a cache of {k_cache.dtype}",
            param="k_scales",
        )


def _check_bias(bias: Tensor, plan: AttentionPlan, num_heads: int, device: torch.device) -> None:
    check_tensor("bias", bias, (None, None, None, None), (torch.float32,), device)
    requests, heads, rows, keys = bias.shape
    if (
        requests not in (1, plan.num_requests)
        or heads not in (1, num_heads)
        or rows < plan.longest_rows
        or keys < plan.longest_keys
    ):
        raise OpArgumentError(
            f"bias has the wrong shape: got {tuple(bias.shape)}; allowed (1 or {plan.num_requests}, 1 or {num_heads}, "
            f"{plan.longest_rows} or more, {plan.longest_keys} or more)",
            param="bias",
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
