"""FlashAttention: exact attention without the matrix of scores, keys outermost. N queries (R of a block), M keys, D head size.

Dao et al. 2022, arXiv 2205.14135: the output of every block of queries is brought to memory and back for every block of
keys, rescaled each time. With SRAM for S elements, blocks of ⌈S / 4·D⌉ keys move Θ(N²·D² / S) elements.
"""

import torch
from torch import Tensor

from octavo.ops.reference.two_level_memory import AttentionMask, TwoLevelMemory, blocks, exp_from


def block_sizes(sram_elements: int, head_size: int) -> tuple[int, int]:
    """(rows, columns): B_c = ⌈S / 4·D⌉, B_r = min(B_c, D), as algorithm 1 chooses them."""
    columns = max(1, -(-sram_elements // (4 * head_size)))
    return min(columns, head_size), columns


def flash_attention_1(
    memory: TwoLevelMemory,
    q_ND: Tensor,
    k_MD: Tensor,
    v_MD: Tensor,
    *,
    scale: float,
    block_rows: int,
    block_columns: int,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """o (N, D) of one head, and what the backward pass needs: l (N) = Σ e^(s − m), and m (N), the largest score, in fp32.

    Algorithm 1. A row that sees no key gives 0. With one addition: blocks that a causal mask hides are left out.
    """
    num_queries, num_keys, device = q_ND.shape[0], k_MD.shape[0], q_ND.device
    mask = AttentionMask(num_queries, num_keys, is_causal)
    statistics = torch.promote_types(q_ND.dtype, torch.float32)
    o_ND = memory.allocate(num_queries, v_MD.shape[1], dtype=q_ND.dtype, device=device)
    l_N = memory.allocate(num_queries, dtype=statistics, device=device)
    m_N = memory.allocate(num_queries, dtype=statistics, device=device)
    memory.store(o_ND, 0.0)
    memory.store(l_N, 0.0)
    memory.store(m_N, -torch.inf)
    for columns in blocks(num_keys, block_columns):
        k, v = memory.load(k_MD[columns]), memory.load(v_MD[columns])
        for rows in blocks(num_queries, block_rows):
            if not mask.sees(rows, columns):
                continue
            q, o = memory.load(q_ND[rows]), memory.load(o_ND[rows])
            l_R, m_R = memory.load(l_N[rows])[:, None], memory.load(m_N[rows])[:, None]
            s = scale * memory.matmul(q, k.T)
            mask.hide(s, rows, columns)
            m_new = torch.maximum(m_R, s.amax(dim=1, keepdim=True))
            p, kept = exp_from(s, m_new), exp_from(m_R, m_new)
            l_new = kept * l_R + p.sum(dim=1, keepdim=True)
            o = (kept * l_R * o + memory.matmul(p, v)) / torch.where(l_new == 0, 1.0, l_new)
            memory.store(o_ND[rows], o)
            memory.store(l_N[rows], l_new[:, 0])
            memory.store(m_N[rows], m_new[:, 0])
    return o_ND, l_N, m_N


def flash_attention_1_backward(
    memory: TwoLevelMemory,
    do_ND: Tensor,
    q_ND: Tensor,
    k_MD: Tensor,
    v_MD: Tensor,
    o_ND: Tensor,
    l_N: Tensor,
    m_N: Tensor,
    *,
    scale: float,
    block_rows: int,
    block_columns: int,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv of one head, p computed again block by block. Algorithm 4."""
    num_queries, num_keys, device = q_ND.shape[0], k_MD.shape[0], q_ND.device
    mask = AttentionMask(num_queries, num_keys, is_causal)
    dq_ND, dk_MD, dv_MD = (memory.allocate(*x.shape, dtype=x.dtype, device=device) for x in (q_ND, k_MD, v_MD))
    memory.store(dq_ND, 0.0)
    for columns in blocks(num_keys, block_columns):
        k, v = memory.load(k_MD[columns]), memory.load(v_MD[columns])
        dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        for rows in blocks(num_queries, block_rows):
            if not mask.sees(rows, columns):
                continue
            q, o, do, dq = (memory.load(x[rows]) for x in (q_ND, o_ND, do_ND, dq_ND))
            l_R, m_R = memory.load(l_N[rows])[:, None], memory.load(m_N[rows])[:, None]
            s = scale * memory.matmul(q, k.T)
            mask.hide(s, rows, columns)
            p = exp_from(s, m_R) / torch.where(l_R == 0, 1.0, l_R)
            dv += memory.matmul(p.T, do)
            ds = p * (memory.matmul(do, v.T) - (do * o).sum(dim=1, keepdim=True))
            memory.store(dq_ND[rows], dq + scale * memory.matmul(ds, k))
            dk += scale * memory.matmul(ds.T, q)
        memory.store(dk_MD[columns], dk)
        memory.store(dv_MD[columns], dv)
    return dq_ND, dk_MD, dv_MD
