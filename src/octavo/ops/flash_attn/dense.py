"""Attention of a batch whose requests are all of one length, under flash-attn's names.

Legend: B batch, S rows, M keys, H query heads, K KV heads, D key size, E value size.
"""

from collections.abc import Sequence

from torch import Tensor

from octavo.ops.flash_attn.checks import (
    check_alibi_slopes,
    check_keys_and_values,
    check_packed,
    check_queries,
)
from octavo.ops.flash_attn.dense_ops import flash_attn
from octavo.ops.flash_attn.probabilities import dense_probabilities
from octavo.ops.flash_attn.results import AttentionAndProbabilities, AttentionResult, lse_by_request
from octavo.ops.flash_attn.settings import check_flags, draw_seed, resolve_settings

_LAYOUT = ("batch", "seqlen", "heads", "head_dim")


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> AttentionResult:
    """Exact attention, differentiable, without its matrix of probabilities in memory.

        o_i = Σ_j softmax_j( cap(scale·q_i·k_j) − slope·|p − j| ) v_j,   p = i + M − S,   cap(s) = softcap·tanh(s / softcap)

    over the keys p − left … p + right of `window_size` (−1: no bound; causal: right is 0). A row that sees none gives 0.
    q (B, S, H, D), k (B, M, K, D), v (B, M, K, E) of fp32, fp16 or bf16, any strides, D and E from 1 to 512, H a multiple
    of K: query head h reads KV head h // (H / K). softmax_scale is 1/√D by default. alibi_slopes fp32 (H,) or (B, H).
    dropout_p is of training only, and its mask of `torch.manual_seed`. Gradients are always deterministic.

    Returns o (B, S, H, E); with `return_attn_probs` also softmax_lse, fp32 (B, H, S), natural logarithm, differentiable, −∞
    for a row that sees nothing, and S_dmask (B, H, S, M), for tests only: probabilities, negative where they are dropped,
    O(S·M) memory; empty where dropout_p is 0. Raises `OpArgumentError`. FlashAttention-2: Dao 2023, arXiv 2307.08691.
    """
    check_queries("q", q, _LAYOUT)
    check_keys_and_values(q, k, v, (*_LAYOUT[:2], "KV heads", "head_dim"), num_requests=q.shape[0])
    check_alibi_slopes(alibi_slopes, q, q.shape[0])
    check_flags(deterministic=deterministic, return_attn_probs=return_attn_probs)
    settings = resolve_settings(
        q.shape[-1],
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        dropout_p=dropout_p,
    )
    seed = draw_seed(settings)
    out, lse_HT = flash_attn(q, k, v, alibi_slopes, seed, *settings)
    if not return_attn_probs:
        return out
    if seed is None:
        s_dmask = q.new_empty(0)
    else:
        s_dmask = dense_probabilities(q.detach(), k.detach(), lse_HT.detach(), alibi_slopes, seed, *settings)
    return AttentionAndProbabilities(out, lse_by_request(lse_HT, q.shape[:2]), s_dmask)


def flash_attn_qkvpacked_func(
    qkv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> AttentionResult:
    """`flash_attn_func` of q, k and v stacked: qkv (B, S, 3, H, D)."""
    check_packed("qkv", qkv, ("batch", "seqlen", "3", "heads", "head_dim"), 3)
    q, k, v = qkv.unbind(2)
    return flash_attn_func(
        q,
        k,
        v,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_attn_probs=return_attn_probs,
    )


def flash_attn_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int] | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> AttentionResult:
    """`flash_attn_func` of k and v stacked: kv (B, M, 2, K, D)."""
    check_packed("kv", kv, ("batch", "seqlen", "2", "KV heads", "head_dim"), 2)
    k, v = kv.unbind(2)
    return flash_attn_func(
        q,
        k,
        v,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_attn_probs=return_attn_probs,
    )
