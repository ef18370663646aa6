"""Native attention over a paged cache.

Legend: T tokens, H query heads, K KV heads, D key size, E value size.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.cpu.launch import ATTENTION, STORE, launch, native
from octavo.ops.cpu.tensors import address, is_fp32_on_cpu, optional_vector

_ELEMENT_TYPE = {
    torch.float32: _native.ElementType.F32,
    torch.bfloat16: _native.ElementType.BF16,
    torch.float16: _native.ElementType.F16,
    torch.float8_e4m3fn: _native.ElementType.F8_E4M3,
    torch.int8: _native.ElementType.I8,
}
_QUERY_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _has_native_queries(q_THD: Tensor) -> bool:
    return q_THD.device.type == "cpu" and q_THD.dtype in _QUERY_DTYPES


def _has_dense_heads(x: Tensor) -> bool:
    return x.stride(-1) == 1 or x.shape[-1] == 1


def _with_dense_heads(x: Tensor) -> Tensor:
    return x if _has_dense_heads(x) else x.contiguous()


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
        x = _with_dense_heads(rows)
        launch(
            STORE,
            x=x,
            token_stride=x.stride(0),
            head_stride=x.stride(1),
            cache=_view(cache),
            type=_ELEMENT_TYPE[cache.dtype],
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
    return _has_native_queries(q_THD)


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
    o = o_THE if _has_dense_heads(o_THE) else o_THE.new_empty(o_THE.shape)
    lse = lse_HT if lse_HT is None or lse_HT.is_contiguous() else lse_HT.new_empty(lse_HT.shape)
    q, k, v = map(_with_dense_heads, (q_THD, k_cache, v_cache))
    launch(ATTENTION, **_arguments(q, k, v, plan, laid_out(options), o, lse))
    for asked, written in ((o_THE, o), (lse_HT, lse)):
        if asked is not None and written is not None and asked is not written:
            asked.copy_(written)


def _arguments(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> dict[str, Any]:
    """Of the native AttentionArguments, for tensors that lie as the kernels read them."""
    _, num_heads, key_size = q_THD.shape
    _, block_size, num_kv_heads, value_size = v_cache.shape
    return {
        "q": q_THD,
        "q_type": _ELEMENT_TYPE[q_THD.dtype],
        "q_token_stride": q_THD.stride(0),
        "q_head_stride": q_THD.stride(1),
        "k": _view(k_cache),
        "v": _view(v_cache),
        "type": _ELEMENT_TYPE[k_cache.dtype],
        "o": o_THE,
        "o_token_stride": o_THE.stride(0),
        "o_head_stride": o_THE.stride(1),
        "lse": lse_HT,
        "plan": plan,
        "block_size": block_size,
        "heads": num_heads,
        "kv_heads": num_kv_heads,
        "key_size": key_size,
        "value_size": value_size,
        "options": options,
    }


def can_attention_backward(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    dlse_HT: Tensor | None,
) -> bool:
    return _has_native_queries(q_THD)


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
    dlse_HT: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """csrc/kernels/attention_backward.h; parallel over (request, KV head), and where these are few, over keys and rows."""
    q, k, v = map(_with_dense_heads, (q_THD, k_cache, v_cache))
    d_o, o, lse, options = do_THE.contiguous(), o_THE.contiguous(), lse_HT.contiguous(), laid_out(options)
    dlse = None if dlse_HT is None else dlse_HT.contiguous()
    dq = q.new_empty(q.shape)
    dk, dv = (x.new_zeros(x.shape) for x in (k, v))
    forward = {name: native(value) for name, value in _arguments(q, k, v, plan, options, o, lse).items()}
    delta = torch.empty_like(lse)
    _native.attention_backward(
        _native.AttentionBackwardArguments(
            forward=_native.AttentionArguments(**forward),
            d_o=address(d_o),
            d_lse=address(dlse),
            delta=address(delta),
            dq=address(dq),
            dk=_view(dk),
            dv=_view(dv),
        )
    )
    return dq, dk, dv


def laid_out(options: AttentionOptions) -> AttentionOptions:
    """The same options, their tensors as the kernels read them: sinks in fp32, everything dense in its last dimension."""
    return replace(
        options,
        sinks=optional_vector(options.sinks),
        alibi_slopes=_optional_with_dense_heads(options.alibi_slopes),
        bias=_optional_with_dense_heads(options.bias),
        k_scales=_optional_with_dense_heads(options.k_scales),
        v_scales=_optional_with_dense_heads(options.v_scales),
    )


def _optional_with_dense_heads(x: Tensor | None) -> Tensor | None:
    return None if x is None else _with_dense_heads(x)
