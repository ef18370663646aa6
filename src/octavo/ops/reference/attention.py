"""Attention over a paged KV cache, forward and backward.

Legend: T tokens, H query heads, K KV heads, G = H/K heads a group, D key size, E value size,
Q a query tile, J a KV tile; N rows and M keys of one request.

Tiles lie at fixed absolute positions, queries at multiples of `QUERY_TILE` and keys at multiples
of `KV_TILE`, and are padded to full size: a row meets the same shapes, at the same place in its
tile, however its prompt was cut into steps. KV tiles are merged online in index order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.reference.arithmetic import exp, tanh, tree_sum
from octavo.ops.reference.philox import keep_mask

QUERY_TILE = 16
KV_TILE = 64


def store_kv(
    k_TKD: Tensor,
    v_TKE: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots_T: Tensor,
    k_scales: Tensor | None,
    v_scales: Tensor | None,
) -> None:
    """Writes token t to slot slots_T[t] of both caches, divided by its head's scale, rounded to nearest even. In place."""
    block_size = k_cache.shape[1]
    block_T = torch.div(slots_T, block_size, rounding_mode="floor")
    offset_T = slots_T - block_T * block_size
    for x_TKD, cache, scales in ((k_TKD, k_cache, k_scales), (v_TKE, v_cache, v_scales)):
        cache[block_T, offset_T] = _stored(x_TKD, cache.dtype, scales)


def _stored(x_TKD: Tensor, dtype: torch.dtype, scales_K: Tensor | None) -> Tensor:
    """As a cache of `dtype` holds it; scaled values saturate, and NaN is 0 in int8."""
    if scales_K is None:
        return x_TKD.to(dtype)
    scaled = x_TKD.float() / scales_K[:, None]
    if dtype == torch.int8:
        return scaled.nan_to_num(0.0).round().clamp(-127, 127).to(dtype)
    highest = torch.finfo(dtype).max
    return scaled.clamp(-highest, highest).to(dtype)


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
    """Every row's output to o, rounded to its dtype, and its log-sum-exp to lse.

    FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1) at tile sizes 16 × 64; a sink adds
    e^sink to the denominator (Xiao et al. 2023, arXiv 2309.17453; learned per head as in gpt-oss).
    O(T · keys · H · (D + E)).
    """
    for request in requests_of(plan, options, q_THD.shape[1], k_cache.shape[2]):
        start, position = request.rows.start, request.first_position
        while start < request.rows.stop:
            stop = min(start + QUERY_TILE - position % QUERY_TILE, request.rows.stop)
            o_HQE, lse_HQ = _query_tile(q_THD[start:stop], position, k_cache, v_cache, request)
            o_THE[start:stop] = o_HQE.transpose(0, 1).to(o_THE.dtype)
            if lse_HT is not None:
                lse_HT[:, start:stop] = lse_HQ
            start, position = stop, position + stop - start


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
    """dq, dk, dv of the dtypes and shapes of q and the caches; slots that no row sees get 0.

    The formulas of Dao 2023, section 2.3.2, request by request, with the N × M matrix in memory:

        P = e^min(0, S − lse), Z the dropout mask / (1 − p), δ = rowsum(dO ∘ O) − dLSE
        dV = (P ∘ Z)ᵀ·dO,   dS = P ∘ (dO·Vᵀ ∘ Z − δ),   dQ = scale·dU·K,   dK = scale·dUᵀ·Q

    with dU = dS through the soft cap. O(T · keys · H · (D + E)), O(N·M·H) memory.
    """
    dq = torch.zeros_like(q_THD, dtype=torch.float32)
    dk, dv = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (k_cache, v_cache))
    for request in requests_of(plan, options, q_THD.shape[1], k_cache.shape[2]):
        q_HND, do_HNE, o_HNE = (x[request.rows].transpose(0, 1).float() for x in (q_THD, do_THE, o_THE))
        keys_M = torch.arange(request.num_keys, device=q_THD.device)
        block, offset = request.slots(keys_M)
        k_HMD, v_HME = (request.rows_by_head(cache) for cache in (k_cache, v_cache))
        u_HNM = torch.bmm(q_HND, k_HMD.transpose(1, 2))
        p_HNM = request.probabilities(u_HNM, lse_HT)
        z_HNM = request.dropout_factors(request.first_position, q_HND.shape[1], keys_M, q_HND.shape[0])
        delta_HN1 = (do_HNE * o_HNE).sum(-1, keepdim=True)
        if dlse_HT is not None:
            delta_HN1 = delta_HN1 - dlse_HT[:, request.rows, None]
        dv_HME = torch.bmm((p_HNM * z_HNM).transpose(1, 2), do_HNE)
        du_HNM = p_HNM * (torch.bmm(do_HNE, v_HME.transpose(1, 2)) * z_HNM - delta_HN1)
        if options.softcap:
            du_HNM = du_HNM * (1 - torch.tanh(u_HNM * (options.scale / options.softcap)) ** 2)
        du_HNM = du_HNM * options.scale
        dq[request.rows] = torch.bmm(du_HNM, k_HMD).transpose(0, 1)
        dk_HMD = torch.bmm(du_HNM.transpose(1, 2), q_HND)
        for total, part in ((dk, dk_HMD), (dv, dv_HME)):
            total[block, offset] += part.unflatten(0, (request.num_kv_heads, request.group)).sum(1).transpose(0, 1)
    return dq.to(q_THD.dtype), dk.to(k_cache.dtype), dv.to(v_cache.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a plan."""

    index: int
    rows: slice
    num_keys: int
    block_table: Tensor
    block_size: int
    key_start: int
    num_kv_heads: int
    group: int
    options: AttentionOptions

    @property
    def first_position(self) -> int:
        return self.num_keys - (self.rows.stop - self.rows.start)

    def slots(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks and offsets of keys."""
        token = keys + self.key_start
        return self.block_table[token // self.block_size].long(), token % self.block_size

    def rows_by_head(self, cache: Tensor) -> Tensor:
        """(H, M, D) of all keys, or values, fp32."""
        block, offset = self.slots(torch.arange(self.num_keys, device=cache.device))
        return cache[block, offset].float().transpose(0, 1).repeat_interleave(self.group, dim=0)

    def probabilities(self, u_HNM: Tensor, lse_HT: Tensor) -> Tensor:
        """Of all rows and keys, from q·k and the log-sum-exps of all requests' rows; before dropout.

        The bound is for huge scores, which are rounded by more than 1.
        """
        s_HNM = self.scores(u_HNM, self.first_position, torch.arange(self.num_keys, device=u_HNM.device))
        return torch.where(s_HNM == -torch.inf, 0.0, torch.exp((s_HNM - lse_HT[:, self.rows, None]).clamp(max=0.0)))

    def key_range(self, first_position: int, last_position: int) -> range:
        """The keys that rows at those positions see, taken together."""
        left, right = self.options.window_left, self.options.window_right
        first = 0 if left is None else max(0, first_position - left)
        stop = self.num_keys if right is None else min(self.num_keys, last_position + right + 1)
        return range(first, max(first, stop))

    def scores(self, u_HQJ: Tensor, first_position: int, keys_J: Tensor) -> Tensor:
        """q·k to what softmax takes: scaled, capped, biased; −∞ where a row does not see a key."""
        options = self.options
        num_heads, num_rows, _ = u_HQJ.shape
        s_HQJ = u_HQJ * options.scale
        if options.k_scales is not None:
            scales_K = options.k_scales if options.k_scales.dim() == 1 else options.k_scales[self.index]
            s_HQJ = s_HQJ * scales_K.repeat_interleave(self.group)[:, None, None]
        if options.softcap:
            s_HQJ = options.softcap * tanh(s_HQJ / options.softcap)
        position_Q1 = torch.arange(first_position, first_position + num_rows, device=keys_J.device)[:, None]
        if options.alibi_slopes is not None:
            slopes = options.alibi_slopes
            slopes_H = slopes if slopes.dim() == 1 else slopes[self.index]
            s_HQJ = s_HQJ - slopes_H[:, None, None] * (position_Q1 - keys_J).abs()
        if options.bias is not None:
            bias = options.bias[self.index if options.bias.shape[0] > 1 else 0]
            row = (position_Q1 - self.first_position).clamp(0, bias.shape[1] - 1)
            s_HQJ = s_HQJ + bias.expand(num_heads, -1, -1)[:, row, keys_J.clamp(0, bias.shape[2] - 1)]
        is_visible_QJ = (keys_J >= 0) & (keys_J < self.num_keys)
        if options.window_left is not None:
            is_visible_QJ = is_visible_QJ & (keys_J >= position_Q1 - options.window_left)
        if options.window_right is not None:
            is_visible_QJ = is_visible_QJ & (keys_J <= position_Q1 + options.window_right)
        return s_HQJ.masked_fill(~is_visible_QJ, -torch.inf)

    def dropout_factors(self, first_position: int, num_rows: int, keys_J: Tensor, num_heads: int) -> Tensor:
        """0 where dropped, 1 / (1 − probability) elsewhere; (H, Q, J), or 1 where there is no dropout."""
        dropout, device = self.options.dropout, keys_J.device
        if dropout is None:
            return torch.ones((), device=device)
        row = first_position - self.first_position
        rows = torch.arange(row, row + num_rows, device=device)
        mask = keep_mask(dropout, self.index, torch.arange(num_heads, device=device), rows, keys_J)
        return mask.float() / (1 - dropout.probability)


def requests_of(plan: AttentionPlan, options: AttentionOptions, num_heads: int, num_kv_heads: int) -> Iterator[Request]:
    starts, lens = plan.query_starts.tolist(), plan.seq_lens.tolist()
    key_starts = [0] * len(lens) if plan.key_starts is None else plan.key_starts.tolist()
    for index, num_keys in enumerate(lens):
        yield Request(
            index=index,
            rows=slice(starts[index], starts[index + 1]),
            num_keys=num_keys,
            block_table=plan.block_tables[index],
            block_size=plan.block_size,
            key_start=key_starts[index],
            num_kv_heads=num_kv_heads,
            group=num_heads // num_kv_heads,
            options=options,
        )


def _query_tile(
    q_THD: Tensor, first_position: int, k_cache: Tensor, v_cache: Tensor, request: Request
) -> tuple[Tensor, Tensor]:
    """The rows of one query tile, at `first_position` and after: o (H, Q, E) and lse (H, Q), in fp32."""
    num_rows, num_heads, _ = q_THD.shape
    options, device = request.options, q_THD.device
    tile_start = first_position // QUERY_TILE * QUERY_TILE
    slot = first_position - tile_start
    q_QHD = q_THD.new_zeros(QUERY_TILE, *q_THD.shape[1:], dtype=torch.float32)
    q_QHD[slot : slot + num_rows] = q_THD
    folded = request.group * QUERY_TILE
    q_KGQD = q_QHD.permute(1, 0, 2).reshape(request.num_kv_heads, folded, q_QHD.shape[2])

    m = torch.full((num_heads, QUERY_TILE, 1), -torch.inf, device=device)
    denominator = torch.zeros_like(m)
    o = m.new_zeros(num_heads, QUERY_TILE, v_cache.shape[3])
    seen = request.key_range(first_position, first_position + num_rows - 1)
    for start in range(seen.start // KV_TILE * KV_TILE, seen.stop, KV_TILE):
        keys_J = torch.arange(start, start + KV_TILE, device=device)
        k_KJD, v_KJE = (_gather(cache, request, start, seen) for cache in (k_cache, v_cache))
        u = torch.bmm(q_KGQD, k_KJD.transpose(1, 2)).view(num_heads, QUERY_TILE, KV_TILE)
        s = request.scores(u, tile_start, keys_J)
        s = s.masked_fill((keys_J < seen.start) | (keys_J >= seen.stop), -torch.inf)  # of padding rows
        m_new = torch.maximum(m, s.amax(dim=-1, keepdim=True))
        is_started = m_new > -torch.inf
        rescale = torch.where(is_started, exp(m - m_new), 1.0)
        p = torch.where(is_started, exp(s - m_new), 0.0)
        denominator = denominator * rescale + tree_sum(p)
        p = p * request.dropout_factors(tile_start, QUERY_TILE, keys_J, num_heads)
        o = o * rescale + torch.bmm(p.reshape(request.num_kv_heads, folded, KV_TILE), v_KJE).view_as(o)
        m = m_new
    if options.sinks is not None:
        sink = options.sinks.float()[:, None, None]
        m_new = torch.maximum(m, sink)
        shift = torch.where(m_new == -torch.inf, 0.0, m_new)
        rescale = exp(m - shift)
        denominator, o, m = denominator * rescale + exp(sink - shift), o * rescale, m_new
    is_empty = denominator == 0
    o = torch.where(is_empty, 0.0, o / denominator)
    if options.v_scales is not None:
        scales_K = options.v_scales if options.v_scales.dim() == 1 else options.v_scales[request.index]
        o = o * scales_K.repeat_interleave(request.group)[:, None, None]
    lse = torch.where(is_empty, -torch.inf, m + torch.log(denominator.double()).float())
    return o[:, slot : slot + num_rows], lse[:, slot : slot + num_rows, 0]


def _gather(cache: Tensor, request: Request, start: int, seen: range) -> Tensor:
    """Those of the keys or values `seen` that are in the KV tile (K, KV_TILE, D) of `start`, zero elsewhere. fp32."""
    first, stop = max(start, seen.start), min(start + KV_TILE, seen.stop)
    block, offset = request.slots(torch.arange(first, stop, device=cache.device))
    tile = torch.zeros(KV_TILE, *cache.shape[2:], device=cache.device)
    tile[first - start : stop - start] = cache[block, offset].float()
    return tile.permute(1, 0, 2).contiguous()
