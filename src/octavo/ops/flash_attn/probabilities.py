"""The probabilities of attention with their dropout, as a matrix: for tests only, since it is what attention never stores.

Legend: B requests, S rows, M keys of the longest, N rows and J keys of one, H query heads, K KV heads, D key size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.flash_attn.attend import Problem
from octavo.ops.flash_attn.dense_ops import dense_problem
from octavo.ops.flash_attn.plans import Ragged
from octavo.ops.flash_attn.settings import Settings
from octavo.ops.flash_attn.varlen_ops import varlen_problem
from octavo.ops.reference.philox import keep_mask


def signed_probabilities(problem: Problem, q_THD: Tensor, lse_HT: Tensor, num_rows: int, num_keys: int) -> Tensor:
    """softmax(S), negative where it was dropped, not divided by 1 − p; (B, H, S, M) of q's dtype, 0 outside of requests.

    O(B·S·M·H·D) operations, O(B·S·M·H) memory.
    """
    plan = problem.plan
    num_requests = 0 if plan is None else plan.num_requests
    result = q_THD.new_zeros(num_requests, q_THD.shape[1], num_rows, num_keys)
    if plan is None:
        return result
    starts, lens = plan.query_starts.tolist(), plan.seq_lens.tolist()
    for request, num_request_keys in enumerate(lens):
        rows = slice(starts[request], starts[request + 1])
        k_JKD = _keys(problem.k_cache, plan, request)
        p_HNJ = _probabilities(q_THD[rows], k_JKD, lse_HT[:, rows], problem.options, request)
        result[request, :, : rows.stop - rows.start, :num_request_keys] = p_HNJ
    return result


def _keys(k_cache: Tensor, plan: AttentionPlan, request: int) -> Tensor:
    """(J, K, D): as they lie in the blocks of the request."""
    first = 0 if plan.key_starts is None else int(plan.key_starts[request])
    token = torch.arange(first, first + int(plan.seq_lens[request]), device=k_cache.device)
    block = plan.block_tables[request].long()[token // plan.block_size]
    return k_cache[block, token % plan.block_size]


def _probabilities(q_NHD: Tensor, k_JKD: Tensor, lse_HN: Tensor, options: AttentionOptions, request: int) -> Tensor:
    (num_rows, num_heads, _), num_keys = q_NHD.shape, k_JKD.shape[0]
    k_JHD = k_JKD.repeat_interleave(num_heads // k_JKD.shape[1], dim=1)
    s_HNJ = torch.einsum("nhd,jhd->hnj", q_NHD.float(), k_JHD.float()) * options.scale
    if options.softcap:
        s_HNJ = options.softcap * torch.tanh(s_HNJ / options.softcap)
    rows, keys = (torch.arange(size, device=q_NHD.device) for size in (num_rows, num_keys))
    distance_NJ = (rows + num_keys - num_rows)[:, None] - keys
    if options.alibi_slopes is not None:
        slopes = options.alibi_slopes
        s_HNJ = s_HNJ - (slopes if slopes.dim() == 1 else slopes[request])[:, None, None] * distance_NJ.abs()
    p_HNJ = torch.where(lse_HN[..., None] == -torch.inf, 0.0, torch.exp(s_HNJ - lse_HN[..., None]))
    if options.window_left is not None:
        p_HNJ = torch.where(distance_NJ > options.window_left, 0.0, p_HNJ)
    if options.window_right is not None:
        p_HNJ = torch.where(-distance_NJ > options.window_right, 0.0, p_HNJ)
    if options.dropout is not None:
        heads = torch.arange(num_heads, device=q_NHD.device)
        p_HNJ = torch.where(keep_mask(options.dropout, request, heads, rows, keys), p_HNJ, -p_HNJ)
    return p_HNJ.to(q_NHD.dtype)


@custom_op("octavo::flash_attn_probabilities", mutates_args=())
def dense_probabilities(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> Tensor:
    """`signed_probabilities` of `torch.ops.octavo.flash_attn`."""
    problem = dense_problem(q, k, k, alibi_slopes, seed, Settings(scale, window_left, window_right, softcap, dropout_p))
    p = signed_probabilities(problem, q.flatten(0, 1), lse, q.shape[1], k.shape[1])
    return p if len(p) else p.new_zeros(q.shape[0], *p.shape[1:])


@dense_probabilities.register_fake
def _(q: Tensor, k: Tensor, *others: Any) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], k.shape[1])


@custom_op("octavo::flash_attn_varlen_probabilities", mutates_args=())
def varlen_probabilities(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None,
    seqused_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> Tensor:
    """`signed_probabilities` of `torch.ops.octavo.flash_attn_varlen`."""
    requests = Ragged(cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, max_seqlen_q, max_seqlen_k)
    settings = Settings(scale, window_left, window_right, softcap, dropout_p)
    problem = varlen_problem(q, k, k, requests, alibi_slopes, seed, settings)
    return signed_probabilities(problem, q, lse, max_seqlen_q, max_seqlen_k)


@varlen_probabilities.register_fake
def _(q: Tensor, k: Tensor, lse: Tensor, cu_seqlens_q: Tensor, *others: Any) -> Tensor:
    max_seqlen_q, max_seqlen_k = others[5:7]
    return q.new_empty(cu_seqlens_q.shape[0] - 1, q.shape[1], max_seqlen_q, max_seqlen_k)
