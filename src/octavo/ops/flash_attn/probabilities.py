"""The probabilities of attention with their dropout, as a matrix: for tests only, since it is what attention never stores.

Legend: B requests, S rows, M keys of the longest or of one, N rows of one, H query heads, D key size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from octavo.ops.flash_attn.attend import Problem
from octavo.ops.flash_attn.dense_ops import dense_problem
from octavo.ops.flash_attn.plans import Ragged
from octavo.ops.flash_attn.settings import Settings
from octavo.ops.flash_attn.varlen_ops import varlen_problem
from octavo.ops.reference.attention import requests_of


def signed_probabilities(problem: Problem, q_THD: Tensor, lse_HT: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """softmax(S), negative where it was dropped, not divided by 1 − p; `shape` (B, H, S, M), of q's dtype, 0 outside of requests.

    O(B·S·M·H·D) operations, O(B·S·M·H) memory.
    """
    plan, result = problem.plan, q_THD.new_zeros(shape)
    if plan is None:
        return result
    for request in requests_of(plan, problem.options, q_THD.shape[1], problem.k_cache.shape[2]):
        q_HND = q_THD[request.rows].transpose(0, 1).float()
        u_HNM = torch.bmm(q_HND, request.rows_by_head(problem.k_cache).transpose(1, 2))
        p_HNM = request.probabilities(u_HNM, lse_HT)
        keys = torch.arange(request.num_keys, device=q_THD.device)
        z_HNM = request.dropout_factors(request.first_position, q_HND.shape[1], keys, q_HND.shape[0])
        result[request.index, :, : q_HND.shape[1], : request.num_keys] = torch.where(z_HNM == 0, -p_HNM, p_HNM)
    return result


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
    shape = q.shape[0], q.shape[2], q.shape[1], k.shape[1]
    return signed_probabilities(problem, q.flatten(0, 1), lse, shape)


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
    shape = cu_seqlens_q.shape[0] - 1, q.shape[1], max_seqlen_q, max_seqlen_k
    return signed_probabilities(problem, q, lse, shape)


@varlen_probabilities.register_fake
def _(
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
    *settings: Any,
) -> Tensor:
    return q.new_empty(cu_seqlens_q.shape[0] - 1, q.shape[1], max_seqlen_q, max_seqlen_k)
