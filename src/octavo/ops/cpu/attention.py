"""Native attention over a paged cache; fp32 queries, cache of fp32, bf16 or fp16.

Legend: T tokens, H query heads, K KV heads, D key size, E value size.
"""

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.cpu.tensors import address, is_fp32_on_cpu, optional_vector

_CACHE_TYPE = {
    torch.float32: _native.CacheType.F32,
    torch.bfloat16: _native.CacheType.BF16,
    torch.float16: _native.CacheType.F16,
}


def _has_dense_heads(x: Tensor) -> bool:
    return x.stride(-1) == 1 or x.shape[-1] == 1


def _strides(cache: Tensor) -> tuple[int, int, int]:
    """Of blocks, slots and heads, in elements."""
    return cache.stride(0), cache.stride(1), cache.stride(2)


def can_store_kv(k_TKD: Tensor, v_TKE: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> bool:
    return is_fp32_on_cpu(k_TKD) and _has_dense_heads(k_cache) and _has_dense_heads(v_cache)


def store_kv(k_TKD: Tensor, v_TKE: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> None:
    """Writes each token's keys and values to its slot, rounded to nearest even. In place."""
    slots = slots_T.contiguous()
    for rows, cache in ((k_TKD, k_cache), (v_TKE, v_cache)):
        x = rows if _has_dense_heads(rows) else rows.contiguous()
        _native.store(
            address(x),
            x.stride(0),
            x.stride(1),
            address(cache),
            *_strides(cache),
            _CACHE_TYPE[cache.dtype],
            address(slots),
            x.shape[0],
            x.shape[1],
            x.shape[2],
            cache.shape[1],
        )


def can_paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    window: int | None,
    softcap: float,
    sinks_H: Tensor | None,
    is_causal: bool,
) -> bool:
    return is_fp32_on_cpu(q_THD) and _has_dense_heads(k_cache) and _has_dense_heads(v_cache)


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    *,
    scale: float,
    window: int | None,
    softcap: float,
    sinks_H: Tensor | None,
    is_causal: bool,
) -> Tensor:
    """o (T, H, E), new. csrc/kernels/attention.h; parallel over (query tile, KV head)."""
    q = q_THD if _has_dense_heads(q_THD) else q_THD.contiguous()
    num_tokens, num_heads, key_size = q.shape
    _, block_size, num_kv_heads, value_size = v_cache.shape
    o_THE = q.new_empty(num_tokens, num_heads, value_size)
    sinks = optional_vector(sinks_H)
    query_starts, seq_lens = plan.query_starts.contiguous(), plan.seq_lens.contiguous()
    block_tables = plan.block_tables.contiguous()
    _native.attention(
        address(q),
        q.stride(0),
        q.stride(1),
        address(k_cache),
        *_strides(k_cache),
        address(v_cache),
        *_strides(v_cache),
        _CACHE_TYPE[k_cache.dtype],
        address(o_THE),
        address(query_starts),
        address(seq_lens),
        address(block_tables),
        plan.num_requests,
        block_tables.shape[1],
        block_size,
        num_heads,
        num_kv_heads,
        key_size,
        value_size,
        scale,
        softcap,
        0 if window is None else window,
        address(sinks),
        is_causal,
    )
    return o_THE
