"""Attention with the matrix of scores in memory, one kernel an operation. N queries, M keys, D head size.

Each kernel is taken to read its inputs once and to write its output once: what its own tiles re-read comes from a cache.
Forward, with N = M, 4·N·D + 4·N² elements are moved; backward 8·N·D + 7·N².
"""

from functools import partial

import torch
from torch import Tensor

from octavo.ops.reference.two_level_memory import AttentionMask, TwoLevelMemory, exp_from


def standard_attention(
    memory: TwoLevelMemory, q_ND: Tensor, k_MD: Tensor, v_MD: Tensor, *, scale: float, is_causal: bool = False
) -> tuple[Tensor, Tensor]:
    """o = softmax(mask(scale·q·kᵀ))·v of one head, (N, D), and p (N, M), which stays in memory for the backward pass.

    Dao et al. 2022, arXiv 2205.14135, algorithm 0. A row that sees no key gives 0.
    """
    (num_queries, _), num_keys = q_ND.shape, k_MD.shape[0]
    new = partial(memory.allocate, dtype=q_ND.dtype, device=q_ND.device)
    s_NM = new(num_queries, num_keys)
    memory.store(s_NM, scale * memory.matmul(memory.load(q_ND), memory.load(k_MD).T))

    s = memory.load(s_NM)
    AttentionMask(num_queries, num_keys, is_causal).hide(s, slice(0, num_queries), slice(0, num_keys))
    p_NM = new(num_queries, num_keys)
    e = exp_from(s, s.amax(dim=1, keepdim=True))
    memory.store(p_NM, e / e.sum(dim=1, keepdim=True).clamp_min(torch.finfo(e.dtype).tiny))

    o_ND = new(num_queries, v_MD.shape[1])
    memory.store(o_ND, memory.matmul(memory.load(p_NM), memory.load(v_MD)))
    return o_ND, p_NM


def standard_attention_backward(
    memory: TwoLevelMemory, do_ND: Tensor, q_ND: Tensor, k_MD: Tensor, v_MD: Tensor, p_NM: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv of one head. Dao et al. 2022, arXiv 2205.14135, algorithm 3."""
    new = partial(memory.allocate, dtype=q_ND.dtype, device=q_ND.device)
    dq_ND, dk_MD, dv_MD = (new(*x.shape) for x in (q_ND, k_MD, v_MD))
    dp_NM, ds_NM = new(*p_NM.shape), new(*p_NM.shape)
    memory.store(dv_MD, memory.matmul(memory.load(p_NM).T, memory.load(do_ND)))
    memory.store(dp_NM, memory.matmul(memory.load(do_ND), memory.load(v_MD).T))
    p, dp = memory.load(p_NM), memory.load(dp_NM)
    memory.store(ds_NM, p * (dp - (p * dp).sum(dim=1, keepdim=True)))
    memory.store(dq_ND, scale * memory.matmul(memory.load(ds_NM), memory.load(k_MD)))
    memory.store(dk_MD, scale * memory.matmul(memory.load(ds_NM).T, memory.load(q_ND)))
    return dq_ND, dk_MD, dv_MD
