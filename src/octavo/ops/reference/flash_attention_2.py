"""FlashAttention-2: queries outermost, one rescaling at the end. N queries (R of a block), M keys, D head size.

Dao 2023, arXiv 2307.08691: a block's output stays in SRAM over all keys, so it is written once, and blocks of queries are
independent of each other. 2·N·D + 2·M·D·⌈N / B_r⌉ elements are moved forward; keys and values that a cache shared by the
processors still holds need not come from memory again, so 2·N·D + 2·M·D is the least.
"""

import torch
from torch import Tensor

from octavo.ops.reference.two_level_memory import AttentionMask, TwoLevelMemory, blocks, exp_from


def flash_attention_2(
    memory: TwoLevelMemory,
    q_ND: Tensor,
    k_MD: Tensor,
    v_MD: Tensor,
    *,
    scale: float,
    block_rows: int,
    block_columns: int,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """o (N, D) of one head, and lse (N) = ln Σ e^s in fp32, all that the backward pass needs.

    Algorithm 1. A row that sees no key gives 0, and −∞. Blocks that a causal mask hides are left out, as section 3.1 says.
    """
    num_queries, num_keys, device = q_ND.shape[0], k_MD.shape[0], q_ND.device
    mask = AttentionMask(num_queries, num_keys, is_causal)
    o_ND = memory.allocate(num_queries, v_MD.shape[1], dtype=q_ND.dtype, device=device)
    lse_N = memory.allocate(num_queries, dtype=torch.promote_types(q_ND.dtype, torch.float32), device=device)
    for rows in blocks(num_queries, block_rows):
        q = memory.load(q_ND[rows])
        o, l_R = q.new_zeros(q.shape[0], v_MD.shape[1]), q.new_zeros(q.shape[0], 1)
        m_R = torch.full_like(l_R, -torch.inf)
        for columns in blocks(num_keys, block_columns):
            if not mask.sees(rows, columns):
                break
            k, v = memory.load(k_MD[columns]), memory.load(v_MD[columns])
            s = scale * memory.matmul(q, k.T)
            mask.hide(s, rows, columns)
            m_new = torch.maximum(m_R, s.amax(dim=1, keepdim=True))
            p, kept = exp_from(s, m_new), exp_from(m_R, m_new)
            l_R = kept * l_R + p.sum(dim=1, keepdim=True)
            o = kept * o + memory.matmul(p, v)
            m_R = m_new
        memory.store(o_ND[rows], o / torch.where(l_R == 0, 1.0, l_R))
        memory.store(lse_N[rows], (m_R + torch.log(l_R))[:, 0])
    return o_ND, lse_N


def flash_attention_2_backward(
    memory: TwoLevelMemory,
    do_ND: Tensor,
    q_ND: Tensor,
    k_MD: Tensor,
    v_MD: Tensor,
    o_ND: Tensor,
    lse_N: Tensor,
    *,
    scale: float,
    block_rows: int,
    block_columns: int,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv of one head, p computed again from lse block by block. Algorithm 2."""
    num_queries, num_keys, device = q_ND.shape[0], k_MD.shape[0], q_ND.device
    mask = AttentionMask(num_queries, num_keys, is_causal)
    dq_ND, dk_MD, dv_MD = (memory.allocate(*x.shape, dtype=x.dtype, device=device) for x in (q_ND, k_MD, v_MD))
    d_N = memory.allocate(num_queries, dtype=lse_N.dtype, device=device)
    for rows in blocks(num_queries, block_rows):
        memory.store(d_N[rows], (memory.load(do_ND[rows]) * memory.load(o_ND[rows])).sum(dim=1))
        memory.store(dq_ND[rows], 0.0)
    for columns in blocks(num_keys, block_columns):
        k, v = memory.load(k_MD[columns]), memory.load(v_MD[columns])
        dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        for rows in blocks(num_queries, block_rows):
            if not mask.sees(rows, columns):
                continue
            q, do, dq = (memory.load(x[rows]) for x in (q_ND, do_ND, dq_ND))
            lse, d = memory.load(lse_N[rows])[:, None], memory.load(d_N[rows])[:, None]
            s = scale * memory.matmul(q, k.T)
            mask.hide(s, rows, columns)
            p = exp_from(s, lse)
            dv += memory.matmul(p.T, do)
            ds = p * (memory.matmul(do, v.T) - d)
            memory.store(dq_ND[rows], dq + scale * memory.matmul(ds, k))
            dk += scale * memory.matmul(ds.T, q)
        memory.store(dk_MD[columns], dk)
        memory.store(dv_MD[columns], dv)
    return dq_ND, dk_MD, dv_MD
