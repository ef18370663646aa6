"""Attention over a paged KV cache.

Legend: T tokens, H query heads, K KV heads, G = H/K heads a group, D key size, E value size,
Q a query tile, J a KV tile.

Tiles lie at fixed absolute positions, queries at multiples of `QUERY_TILE` and keys at multiples
of `KV_TILE`, and are padded to full size: a row meets the same shapes, at the same place in its
tile, however its prompt was cut into steps. KV tiles are merged online in index order.
"""

import torch
from torch import Tensor

from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.reference.arithmetic import exp, tanh, tree_sum

QUERY_TILE = 16
KV_TILE = 64


def store_kv(k_TKD: Tensor, v_TKE: Tensor, k_cache: Tensor, v_cache: Tensor, slots_T: Tensor) -> None:
    """Writes token t to slot slots_T[t] of both caches, rounded to nearest even. In place."""
    block_size = k_cache.shape[1]
    block_T = torch.div(slots_T, block_size, rounding_mode="floor")
    offset_T = slots_T - block_T * block_size
    k_cache[block_T, offset_T] = k_TKD.to(k_cache.dtype)
    v_cache[block_T, offset_T] = v_TKE.to(v_cache.dtype)


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
    """softmax(mask(cap(scale·q·Kᵀ)))·V for every row, (T, H, E) of q's dtype.

    FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1) at tile sizes 16 × 64; a sink adds
    e^sink to the denominator (Xiao et al. 2023, arXiv 2309.17453; learned per head as in gpt-oss).
    O(T · keys · H · (D + E)).
    """
    o_THE = q_THD.new_empty(q_THD.shape[0], q_THD.shape[1], v_cache.shape[3])
    starts, lens = plan.query_starts.tolist(), plan.seq_lens.tolist()
    for r, seq_len in enumerate(lens):
        position = seq_len - (starts[r + 1] - starts[r])  # of the request's first row
        row = starts[r]
        while position < seq_len:
            end = min((position // QUERY_TILE + 1) * QUERY_TILE, seq_len)
            rows = slice(row, row + end - position)
            num_keys = None if is_causal else seq_len
            o_THE[rows] = _query_tile(
                q_THD[rows], position, num_keys, k_cache, v_cache, plan.block_tables[r], scale, window, softcap, sinks_H
            ).to(o_THE.dtype)
            row, position = rows.stop, end
    return o_THE


def _query_tile(
    q_THD: Tensor,
    first_position: int,
    num_keys: int | None,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    scale: float,
    window: int | None,
    softcap: float,
    sinks_H: Tensor | None,
) -> Tensor:
    """The rows of one query tile of one request, at `first_position` and after, in fp32.

    Each sees num_keys keys, or where that is None, those up to its position.
    """
    num_rows, num_heads, _ = q_THD.shape
    num_kv_heads, device = k_cache.shape[2], q_THD.device
    tile_start = first_position // QUERY_TILE * QUERY_TILE
    slot = first_position - tile_start
    q_QHD = q_THD.new_zeros(QUERY_TILE, *q_THD.shape[1:], dtype=torch.float32)
    q_QHD[slot : slot + num_rows] = q_THD
    q_KGQD = q_QHD.permute(1, 0, 2).reshape(num_kv_heads, -1, q_QHD.shape[2])  # (K, G·Q, D)
    position_Q1 = torch.arange(tile_start, tile_start + QUERY_TILE, device=device)[:, None]

    last = first_position + num_rows - 1 if num_keys is None else num_keys - 1
    oldest = 0 if window is None else max(0, first_position - window + 1)
    m = torch.full((num_kv_heads, q_KGQD.shape[1], 1), -torch.inf, device=device)
    denominator = torch.zeros_like(m)
    o = m.new_zeros(num_kv_heads, q_KGQD.shape[1], v_cache.shape[3])
    for start in range(oldest // KV_TILE * KV_TILE, last + 1, KV_TILE):
        first, stop = max(start, oldest), min(start + KV_TILE, last + 1)
        k_KJD = _gather(k_cache, block_table, start, first, stop)
        v_KJE = _gather(v_cache, block_table, start, first, stop)
        s = torch.bmm(q_KGQD, k_KJD.transpose(1, 2)) * scale
        if softcap:
            s = softcap * tanh(s / softcap)
        key_J = torch.arange(start, start + KV_TILE, device=device)
        last_key_Q1 = position_Q1 if num_keys is None else torch.full_like(position_Q1, last)
        is_visible_QJ = (key_J <= last_key_Q1) & (key_J < stop)
        if window is not None:
            is_visible_QJ &= key_J > position_Q1 - window
        is_visible = is_visible_QJ.repeat(num_heads // num_kv_heads, 1)
        s = s.masked_fill(~is_visible, -torch.inf)
        m_new = torch.maximum(m, s.amax(dim=-1, keepdim=True))
        is_started = m_new > -torch.inf
        rescale = torch.where(is_started, exp(m - m_new), 1.0)
        p = torch.where(is_started, exp(s - m_new), 0.0)
        denominator = denominator * rescale + tree_sum(p)
        o = o * rescale + torch.bmm(p, v_KJE)
        m = m_new
    if sinks_H is not None:
        sink = sinks_H.float().view(num_kv_heads, -1, 1).repeat_interleave(QUERY_TILE, dim=1)
        m_new = torch.maximum(m, sink)
        rescale = exp(m - m_new)
        denominator, o = denominator * rescale + exp(sink - m_new), o * rescale
    o_HQE = (o / denominator).reshape(num_heads, QUERY_TILE, -1)
    return o_HQE.permute(1, 0, 2)[slot : slot + num_rows]


def _gather(cache: Tensor, block_table: Tensor, start: int, first: int, stop: int) -> Tensor:
    """Keys or values at positions first … stop − 1 as the tile (K, KV_TILE, D) of `start`, zero elsewhere. fp32."""
    block_size = cache.shape[1]
    position = torch.arange(first, stop, device=cache.device)
    block = block_table[position // block_size].long()
    tile = torch.zeros(KV_TILE, *cache.shape[2:], device=cache.device)
    tile[first - start : stop - start] = cache[block, position % block_size].float()
    return tile.permute(1, 0, 2).contiguous()
