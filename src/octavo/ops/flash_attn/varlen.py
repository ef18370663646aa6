"""Attention of requests end to end, of different lengths, under flash-attn's names.

Legend: T rows, M keys, H query heads, K KV heads, D key size, E value size, R requests.
"""

from collections.abc import Sequence

from torch import Tensor

from octavo.ops.checks import check_distinct_memory
from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn.checks import (
    check_alibi_slopes,
    check_integers,
    check_keys_and_values,
    check_packed,
    check_queries,
    check_traceable_tensor,
    refuse_gradient,
)
from octavo.ops.flash_attn.probabilities import varlen_probabilities
from octavo.ops.flash_attn.results import AttentionAndLse, AttentionAndProbabilities, AttentionResult
from octavo.ops.flash_attn.settings import check_flags, draw_seed, index, resolve_settings
from octavo.ops.flash_attn.varlen_ops import flash_attn_varlen, flash_attn_varlen_out

_LAYOUT = ("total tokens", "heads", "head_dim")
_PACKED_LAYOUT = ("total tokens", "KV heads", "head_dim")
_BLOCK_LAYOUT = ("blocks", "block size", "KV heads", "head_dim")


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
    *,
    out: Tensor | None = None,
    seqused_k: Tensor | None = None,
    return_softmax_lse: bool = False,
) -> AttentionResult:
    """`flash_attn_func` of requests of different lengths, without padding.

    Request r owns rows cu_seqlens_q[r] … cu_seqlens_q[r + 1] − 1 of q, and keys likewise; `seqused_k[r]`, where it is given,
    says how many of them count, the first. Rows and keys behind the last request's belong to none: their output is 0, their
    log-sum-exp −∞, their gradients 0. With `block_table` (R, blocks of each) k and v are a cache of blocks of any size ≥ 1,
    key j in block block_table[r, j // block size]; the other entries may be anything; there is no backward pass then,
    nor to `out`, which is written instead of a new tensor.

    q (T, H, D), k (M, K, D) or (blocks, block size, K, D), v likewise with E. cu_seqlens (R + 1,) int32 or int64;
    cu_seqlens_k may be None where seqused_k and a block table are given; max_seqlen at least the longest request's. alibi_slopes
    fp32 (H,) or (R, H). Returns o (T, H, E); with `return_softmax_lse` also softmax_lse, fp32 (H, T); with
    `return_attn_probs` that and S_dmask (R, H, max_seqlen_q, max_seqlen_k). Raises `OpArgumentError`.
    """
    check_queries("q", q, _LAYOUT)
    check_keys_and_values(q, k, v, _PACKED_LAYOUT if block_table is None else _BLOCK_LAYOUT)
    num_requests = _check_requests(q, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table)
    check_alibi_slopes(alibi_slopes, q, num_requests)
    maxima = index("max_seqlen_q", max_seqlen_q), index("max_seqlen_k", max_seqlen_k)
    check_flags(deterministic=deterministic, return_attn_probs=return_attn_probs, return_softmax_lse=return_softmax_lse)
    settings = resolve_settings(
        q.shape[-1],
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        dropout_p=dropout_p,
    )
    lengths = cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, alibi_slopes
    if block_table is not None:
        refuse_gradient("attention through a block table", q=q, k=k, v=v)
    seed = draw_seed(settings)
    if out is None:
        o_THE, lse_HT = flash_attn_varlen(q, k, v, *lengths, seed, *maxima, *settings)
    else:
        _check_out(out, q, v)
        refuse_gradient("attention into a tensor that is given", q=q, k=k, v=v, out=out)
        if seed is not None:
            raise OpArgumentError(
                f"dropout_p: got {dropout_p} with out; allowed 0; training needs a result of its own", param="dropout_p"
            )
        o_THE = out
        lse_HT = flash_attn_varlen_out(out, q, k, v, *lengths, *maxima, *settings[:4])
    if return_attn_probs:
        if seed is None:
            return AttentionAndProbabilities(o_THE, lse_HT, q.new_empty(0))
        inputs = q.detach(), k.detach(), lse_HT.detach()
        s_dmask = varlen_probabilities(*inputs, *lengths, seed, *maxima, *settings)
        return AttentionAndProbabilities(o_THE, lse_HT, s_dmask)
    return AttentionAndLse(o_THE, lse_HT) if return_softmax_lse else o_THE


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> AttentionResult:
    """`flash_attn_varlen_func` of q, k and v stacked: qkv (T, 3, H, D)."""
    check_packed("qkv", qkv, ("total tokens", "3", "heads", "head_dim"), 3)
    q, k, v = qkv.unbind(1)
    return flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        max_seqlen,
        max_seqlen,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_attn_probs=return_attn_probs,
    )


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> AttentionResult:
    """`flash_attn_varlen_func` of k and v stacked: kv (M, 2, K, D)."""
    check_packed("kv", kv, ("total tokens", "2", "KV heads", "head_dim"), 2)
    k, v = kv.unbind(1)
    return flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_attn_probs=return_attn_probs,
    )


def _check_requests(
    q: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None,
    seqused_k: Tensor | None,
    block_table: Tensor | None,
) -> int:
    """How many requests there are."""
    check_integers("cu_seqlens_q", cu_seqlens_q, (None,), q.device)
    num_requests = cu_seqlens_q.shape[0] - 1
    if num_requests < 0:
        raise OpArgumentError("cu_seqlens_q: got no numbers; allowed one more than requests", param="cu_seqlens_q")
    if cu_seqlens_k is not None:
        check_integers("cu_seqlens_k", cu_seqlens_k, (num_requests + 1,), q.device)
    elif seqused_k is None or block_table is None:
        raise OpArgumentError(
            "cu_seqlens_k: got None; allowed with a block table and seqused_k only; pass where each request's keys start",
            param="cu_seqlens_k",
        )
    if seqused_k is not None:
        check_integers("seqused_k", seqused_k, (num_requests,), q.device)
    if block_table is not None:
        check_integers("block_table", block_table, (num_requests, None), q.device)
    return num_requests


def _check_out(out: Tensor, q: Tensor, v: Tensor) -> None:
    check_traceable_tensor("out", out, (*q.shape[:-1], v.shape[-1]), (q.dtype,), q.device)
    check_distinct_memory("out", out)
