"""FlashAttention-1's forward pass as a Triton kernel, to measure what FlashAttention-2 changed; for comparison only.

Dao et al. 2022, arXiv 2205.14135, algorithm 1: one program a head, an outer loop over blocks of keys, an inner one over blocks of
rows, whose o, l and m go to memory and come back for each block of keys.

Legend: B batch, S tokens, H heads, D head size; M rows and N keys of a block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_M, BLOCK_N = 64, 64


@triton.jit
def flash_attention_1_kernel(
    q, k, v, o, statistics, scale, num_tokens, num_heads,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, IS_CAUSAL: tl.constexpr,
):  # fmt: skip
    """All of (B, S, H, D), contiguous, o in fp32 and 0; statistics (B·H, 2, S) are l, 0, and m, −∞. S is a multiple of the blocks."""
    batch, head = tl.program_id(0) // num_heads, tl.program_id(0) % num_heads
    first = batch.to(tl.int64) * num_tokens * num_heads * D + head * D
    l_start = statistics + tl.program_id(0).to(tl.int64) * 2 * num_tokens
    m_start = l_start + num_tokens
    size = tl.arange(0, D)[None, :]
    for n in range(0, num_tokens, BLOCK_N):
        keys_N = n + tl.arange(0, BLOCK_N)
        k_ND = tl.load(k + first + keys_N[:, None] * num_heads * D + size)
        v_ND = tl.load(v + first + keys_N[:, None] * num_heads * D + size)
        for r in range(n // BLOCK_M * BLOCK_M if IS_CAUSAL else 0, num_tokens, BLOCK_M):
            rows_M = r + tl.arange(0, BLOCK_M)
            at = first + rows_M[:, None] * num_heads * D + size
            q_MD = tl.load(q + at)
            l_M, m_M = tl.load(l_start + rows_M), tl.load(m_start + rows_M)
            s_MN = tl.dot(q_MD, tl.trans(k_ND)) * scale
            if IS_CAUSAL:
                s_MN = tl.where(rows_M[:, None] >= keys_N[None, :], s_MN, float("-inf"))
            m_new = tl.maximum(m_M, tl.max(s_MN, 1))
            p_MN = tl.exp2(s_MN - m_new[:, None])
            rescaled_l = l_M * tl.exp2(m_M - m_new)
            l_new = rescaled_l + tl.sum(p_MN, 1)
            o_MD = tl.load(o + at) * (rescaled_l / l_new)[:, None]
            o_MD += tl.dot(p_MN.to(v_ND.dtype), v_ND) / l_new[:, None]
            tl.store(o + at, o_MD)
            tl.store(l_start + rows_M, l_new)
            tl.store(m_start + rows_M, m_new)
        tl.debug_barrier()  # the next block of keys reads what this one wrote


def flash_attention_1(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, scale: float, is_causal: bool) -> Tensor:
    """o (B, S, H, D) of q's dtype; contiguous tensors, S a multiple of 64, D a power of two."""
    batch, num_tokens, num_heads, size = q_BSHD.shape
    o = torch.zeros_like(q_BSHD, dtype=torch.float32)
    statistics = torch.zeros(batch * num_heads, 2, num_tokens, device=q_BSHD.device)
    statistics[:, 1] = -torch.inf
    flash_attention_1_kernel[(batch * num_heads,)](
        q_BSHD, k_BSHD, v_BSHD, o, statistics, scale * 1.4426950408889634, num_tokens, num_heads,
        D=size, BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, IS_CAUSAL=is_causal, num_warps=4, num_stages=1,
    )  # fmt: skip
    return o.to(q_BSHD.dtype)
