"""Native attention over a paged cache; fp32 queries, cache of fp32, bf16 or fp16.

Legend: T tokens, H query heads, K KV heads, D key size, E value size.
"""

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.cpu.launch import ATTENTION, STORE, launch
from octavo.ops.cpu.tensors import address, is_fp32_on_cpu, optional_vector

_CACHE_TYPE = {
    torch.float32: _native.CacheType.F32,
    torch.bfloat16: _native.CacheType.BF16,
    torch.float16: _native.CacheType.F16,
}


def _has_dense_heads(x: Tensor) -> bool:
    return x.stride(-1) == 1 or x.shape[-1] == 1


def _view(cache: Tensor) -> _native.CacheView:
    """The strides are of blocks, slots and heads, in elements."""
    return _native.CacheView(
        data=address(cache), block_stride=cache.stride(0), slot_stride=cache.stride(1), head_stride=cache.stride(2)
    )


def can_store_kv(
    k_TKD: Tensor,
    v_TKE: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    k_scales: Tensor | None,
    v_scales: Tensor | None,
) -> bool:
    return is_fp32_on_cpu(k_TKD) and k_scales is None and _has_dense_heads(k_cache) and _has_dense_heads(v_cache)


def store_kv(
    k_TKD: Tensor,
    v_TKE: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    k_scales: Tensor | None,
    v_scales: Tensor | None,
) -> None:
    """Writes each token's keys and values to its slot, rounded to nearest even. In place."""
    slots = slots_T.contiguous()
    for rows, cache in ((k_TKD, k_cache), (v_TKE, v_cache)):
        x = rows if _has_dense_heads(rows) else rows.contiguous()
        launch(
            STORE,
            x=x,
            token_stride=x.stride(0),
            head_stride=x.stride(1),
            cache=_view(cache),
            type=_CACHE_TYPE[cache.dtype],
            slots=slots,
            rows=x.shape[0],
            heads=x.shape[1],
            head_size=x.shape[2],
            block_size=cache.shape[1],
        )


def can_paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> bool:
    is_causal = options.window_right == 0
    return (
        is_fp32_on_cpu(q_THD)
        and _has_dense_heads(k_cache)
        and _has_dense_heads(v_cache)
        and (is_causal or (options.window_right is None and options.window_left is None))
        and options.alibi_slopes is None
        and options.bias is None
        and options.k_scales is None
        and options.dropout is None
        and lse_HT is None
        and plan.key_starts is None
        and o_THE.is_contiguous()
    )


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> None:
    """csrc/kernels/attention.h; parallel over (query tile, KV head)."""
    q = q_THD if _has_dense_heads(q_THD) else q_THD.contiguous()
    _, num_heads, key_size = q.shape
    _, block_size, num_kv_heads, value_size = v_cache.shape
    launch(
        ATTENTION,
        q=q,
        q_token_stride=q.stride(0),
        q_head_stride=q.stride(1),
        k=_view(k_cache),
        v=_view(v_cache),
        type=_CACHE_TYPE[k_cache.dtype],
        o=o_THE,
        plan=plan,
        block_size=block_size,
        heads=num_heads,
        kv_heads=num_kv_heads,
        key_size=key_size,
        value_size=value_size,
        scale=options.scale,
        softcap=options.softcap,
        window=0 if options.window_left is None else options.window_left + 1,
        sinks=optional_vector(options.sinks),
        is_causal=options.window_right == 0,
    )
