"""Attention's backward kernels: P is made again from the log-sum-exp, tile by tile (Dao 2023, arXiv 2307.08691, algorithm 2).

    P = e^min(0, S − lse), Z the dropout mask / (1 − p), δ = rowsum(dO ∘ O) − dLSE
    dV = (P ∘ Z)ᵀ·dO,   dS = P ∘ (dO·Vᵀ ∘ Z − δ),   dQ = scale·dU·K,   dK = scale·dUᵀ·Q

with dU = dS through the soft cap. Deviation: dQ has a kernel of its own instead of atomic sums, so that every sum has one order.
Legend as in `tiles`; T tokens, H query heads.
"""

import triton
import triton.language as tl

from octavo.ops.triton.scores import Dropping, is_kept, row_slopes, score_scale, scores
from octavo.ops.triton.tiles import (
    INFINITY,
    LOG2_E,
    MINUS_INFINITY,
    KeyRange,
    as_column,
    as_row,
    blocks_of,
    find_owner,
    fold_rows,
    is_visible,
    key_tiles,
    load_keys,
    load_request,
    load_rows,
    load_statistic,
    row_tile,
    store_keys,
    store_rows,
    visible_keys,
)


@triton.jit(do_not_specialize=["num_tokens"])
def delta_kernel(do, o, dlse, delta, num_tokens, E: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_E: tl.constexpr):
    """δ = rowsum(dO ∘ O) − dLSE, if there is one: grid (tiles of tokens, heads)."""
    token_M = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    size = tl.arange(0, BLOCK_E)
    mask = (token_M < num_tokens)[:, None] & (size < E)[None, :]
    do_rows = do.start + head * do.head_stride + token_M * do.token_stride
    o_rows = o.start + head * o.head_stride + token_M * o.token_stride
    do_ME = tl.load(do_rows[:, None] + size[None, :], mask=mask, other=0.0).to(tl.float32)
    o_ME = tl.load(o_rows[:, None] + size[None, :], mask=mask, other=0.0).to(tl.float32)
    delta_M = tl.sum(do_ME * o_ME, 1)
    if dlse.start is not None:
        gradients = dlse.start + head * dlse.head_stride + token_M * dlse.token_stride
        delta_M -= tl.load(gradients, mask=token_M < num_tokens, other=0.0)
    pointers = delta.start + head * delta.head_stride + token_M * delta.token_stride
    tl.store(pointers, delta_M, mask=token_M < num_tokens)


@triton.jit(do_not_specialize=["num_requests", "threshold", "seed_low", "seed_high"])
def query_gradient_kernel(
    q, k, v, do, lse, delta, dq, plan, scoring, window, factor, num_requests, threshold, seed_low, seed_high,
    D: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    IS_PLAIN: tl.constexpr, HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    """dQ of a tile of folded rows, over all keys: grid (tiles, KV heads)."""
    kv_head = tl.program_id(1)
    last = tl.num_programs(0) - 1
    index, tile = find_owner(plan.query_starts, num_requests, last - tl.program_id(0), GROUP, BLOCK_M)
    request = load_request(plan, index)
    if tile * BLOCK_M >= request.num_rows * GROUP:
        return
    at = row_tile(request, kv_head, tile, GROUP, BLOCK_M)
    rows = fold_rows(request, at)
    seen = visible_keys(request, window, tile, 0, request.num_keys, GROUP, BLOCK_M, BLOCK_N)
    dropping = None
    if HAS_DROPOUT:
        dropping = Dropping(threshold=threshold, seed_low=seed_low, seed_high=seed_high)
    q_MD = load_rows(q, at, request, D, BLOCK_D)
    do_ME = load_rows(do, at, request, E, BLOCK_E)
    lse_M = _log_sum(lse, rows, request)
    delta_M = load_statistic(delta, rows, request, 0.0)
    keys = key_tiles(k, request, kv_head, BLOCK_SIZE)
    values = key_tiles(v, request, kv_head, BLOCK_SIZE)
    scale = score_scale(scoring, request, kv_head, IS_PLAIN)
    slopes = row_slopes(scoring, request, as_column(rows))
    dq_MD = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    start = seen.first // BLOCK_N * BLOCK_N
    blocks = blocks_of(request, start, seen, BLOCK_N, BLOCK_SIZE)
    if window.left is not None:
        for n in tl.range(start, tl.minimum(seen.full_first, seen.stop), BLOCK_N):
            dq_MD, blocks = _meet_keys(
                dq_MD, blocks, q_MD, do_ME, lse_M, delta_M, rows, request, keys, values, scoring, window, dropping, factor,
                seen, n, scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, True,
            )  # fmt: skip
        start = seen.full_first
    for n in tl.range(start, seen.full_stop, BLOCK_N):
        dq_MD, blocks = _meet_keys(
            dq_MD, blocks, q_MD, do_ME, lse_M, delta_M, rows, request, keys, values, scoring, window, dropping, factor,
            seen, n, scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, False,
        )  # fmt: skip
    for n in tl.range(tl.maximum(start, seen.full_stop), seen.stop, BLOCK_N):
        dq_MD, blocks = _meet_keys(
            dq_MD, blocks, q_MD, do_ME, lse_M, delta_M, rows, request, keys, values, scoring, window, dropping, factor,
            seen, n, scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, True,
        )  # fmt: skip
    store_rows(dq, at, request, dq_MD * scoring.scale, D, BLOCK_D)


@triton.jit
def _meet_keys(
    dq_MD, blocks, q_MD, do_ME, lse_M, delta_M, rows, request, k, v, scoring, window, dropping, factor, seen, start,
    scale, slopes, D: tl.constexpr, E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr, IS_PLAIN: tl.constexpr, IS_MASKED: tl.constexpr,
):  # fmt: skip
    """dQ, not yet scaled, with one more tile of keys."""
    keys = (start + tl.arange(0, BLOCK_N))[None, :]
    following = blocks_of(request, start + BLOCK_N, seen, BLOCK_N, BLOCK_SIZE)
    k_ND = load_keys(k, request, blocks, start, seen, D, BLOCK_D, BLOCK_N, BLOCK_SIZE, IS_MASKED)
    v_NE = load_keys(v, request, blocks, start, seen, E, BLOCK_E, BLOCK_N, BLOCK_SIZE, IS_MASKED)
    u_MN = tl.dot(q_MD, tl.trans(k_ND), input_precision="ieee")
    column = as_column(rows)
    s_MN, t_MN = scores(u_MN, scale, slopes, column, keys, request, scoring, IS_PLAIN)
    if IS_MASKED:
        s_MN = tl.where(is_visible(column, keys, request, window), s_MN, MINUS_INFINITY)
    p_MN = _probabilities(s_MN, lse_M[:, None])
    dp_MN = tl.dot(do_ME, tl.trans(v_NE), input_precision="ieee")
    if dropping is not None:
        dp_MN = tl.where(is_kept(dropping, rows, start, request, BLOCK_N), dp_MN * factor, 0.0)
    du_MN = p_MN * (dp_MN - delta_M[:, None])
    if scoring.softcap is not None:
        du_MN *= 1 - t_MN * t_MN
    return tl.dot(du_MN.to(q_MD.dtype), k_ND, dq_MD, input_precision="ieee"), following


@triton.jit(do_not_specialize=["num_requests", "threshold", "seed_low", "seed_high"])
def key_gradient_kernel(
    q, k, v, do, lse, delta, dk, dv, plan, key_offsets, scoring, window, factor, num_requests,
    threshold, seed_low, seed_high,
    D: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    IS_PLAIN: tl.constexpr, HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    """dK and dV of a tile of keys, over all folded rows, and so over the group: grid (tiles of keys, KV heads).

    key_offsets (R + 1,) are the sums of the requests' numbers of keys.
    """
    kv_head = tl.program_id(1)
    index, tile = find_owner(key_offsets, num_requests, tl.program_id(0), 1, BLOCK_N)
    request = load_request(plan, index)
    start = tile * BLOCK_N
    if start >= request.num_keys:
        return
    dropping = None
    if HAS_DROPOUT:
        dropping = Dropping(threshold=threshold, seed_low=seed_low, seed_high=seed_high)
    every = KeyRange(first=0, stop=request.num_keys, full_first=0, full_stop=0)
    blocks = blocks_of(request, start, every, BLOCK_N, BLOCK_SIZE)
    keys = key_tiles(k, request, kv_head, BLOCK_SIZE)
    values = key_tiles(v, request, kv_head, BLOCK_SIZE)
    k_ND = load_keys(keys, request, blocks, start, every, D, BLOCK_D, BLOCK_N, BLOCK_SIZE, True)
    v_NE = load_keys(values, request, blocks, start, every, E, BLOCK_E, BLOCK_N, BLOCK_SIZE, True)
    first, full_first, full_stop, stop = _seeing_rows(request, window, start, GROUP, BLOCK_M, BLOCK_N)
    scale = score_scale(scoring, request, kv_head, IS_PLAIN)
    dk_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dv_NE = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
    if window.right is not None:
        for m in tl.range(first, tl.minimum(full_first, stop), BLOCK_M):
            dk_ND, dv_NE = _meet_rows(
                dk_ND, dv_NE, q, k_ND, v_NE, do, lse, delta, request, kv_head, scoring, window, dropping, factor,
                start, m // BLOCK_M, scale, D, E, GROUP, BLOCK_M, BLOCK_N, BLOCK_D, BLOCK_E, IS_PLAIN, True,
            )  # fmt: skip
        first = full_first
    for m in tl.range(first, full_stop, BLOCK_M):
        dk_ND, dv_NE = _meet_rows(
            dk_ND, dv_NE, q, k_ND, v_NE, do, lse, delta, request, kv_head, scoring, window, dropping, factor,
            start, m // BLOCK_M, scale, D, E, GROUP, BLOCK_M, BLOCK_N, BLOCK_D, BLOCK_E, IS_PLAIN, False,
        )  # fmt: skip
    if window.left is not None:
        for m in tl.range(tl.maximum(first, full_stop), stop, BLOCK_M):
            dk_ND, dv_NE = _meet_rows(
                dk_ND, dv_NE, q, k_ND, v_NE, do, lse, delta, request, kv_head, scoring, window, dropping, factor,
                start, m // BLOCK_M, scale, D, E, GROUP, BLOCK_M, BLOCK_N, BLOCK_D, BLOCK_E, IS_PLAIN, True,
            )  # fmt: skip
    dk_tiles = key_tiles(dk, request, kv_head, BLOCK_SIZE)
    dv_tiles = key_tiles(dv, request, kv_head, BLOCK_SIZE)
    store_keys(dk_tiles, request, blocks, start, dk_ND * scoring.scale, D, BLOCK_D, BLOCK_N, BLOCK_SIZE)
    store_keys(dv_tiles, request, blocks, start, dv_NE * factor, E, BLOCK_E, BLOCK_N, BLOCK_SIZE)


@triton.jit
def _seeing_rows(request, window, start, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """(first, full_first, full_stop, stop) folded rows: those from first to stop − 1 see a key of the tile, in whole tiles, and
    those from full_first to full_stop − 1 all of them. Rows that there are not may be among these; their P is 0."""
    shift = request.num_keys - request.num_rows
    last_key = tl.minimum(start + BLOCK_N, request.num_keys) - 1
    first = 0
    full_first = 0
    stop = request.num_rows * GROUP
    full_stop = tl.cdiv(stop, BLOCK_M) * BLOCK_M
    if window.right is not None:
        first = tl.maximum(start - window.right - shift, 0) * GROUP // BLOCK_M * BLOCK_M
        full_first = tl.cdiv(tl.maximum(last_key - window.right - shift, 0) * GROUP, BLOCK_M) * BLOCK_M
    if window.left is not None:
        stop = tl.minimum(stop, (last_key + window.left - shift + 1) * GROUP)
        full_stop = tl.minimum(stop, tl.maximum(start + window.left - shift + 1, 0) * GROUP) // BLOCK_M * BLOCK_M
    return first, full_first, full_stop, stop


@triton.jit
def _meet_rows(
    dk_ND, dv_NE, q, k_ND, v_NE, do, lse, delta, request, kv_head, scoring, window, dropping, factor, start, tile,
    scale, D: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, IS_PLAIN: tl.constexpr, IS_MASKED: tl.constexpr,
):  # fmt: skip
    """dK, not yet scaled, and dV, without dropout's factor, with one more tile of folded rows."""
    at = row_tile(request, kv_head, tile, GROUP, BLOCK_M)
    rows = fold_rows(request, at)
    across = as_row(rows)
    keys = (start + tl.arange(0, BLOCK_N))[:, None]
    q_MD = load_rows(q, at, request, D, BLOCK_D)
    u_NM = tl.dot(k_ND, tl.trans(q_MD), input_precision="ieee")
    slopes = row_slopes(scoring, request, across)
    s_NM, t_NM = scores(u_NM, scale, slopes, across, keys, request, scoring, IS_PLAIN)
    if IS_MASKED:
        s_NM = tl.where(is_visible(across, keys, request, window), s_NM, MINUS_INFINITY)
    p_NM = _probabilities(s_NM, _log_sum(lse, rows, request)[None, :])
    do_ME = load_rows(do, at, request, E, BLOCK_E)
    dp_NM = tl.dot(v_NE, tl.trans(do_ME), input_precision="ieee")
    z_NM = p_NM
    if dropping is not None:
        is_kept_NM = tl.trans(is_kept(dropping, rows, start, request, BLOCK_N))
        z_NM = tl.where(is_kept_NM, p_NM, 0.0)
        dp_NM = tl.where(is_kept_NM, dp_NM * factor, 0.0)
    dv_NE = tl.dot(z_NM.to(do_ME.dtype), do_ME, dv_NE, input_precision="ieee")
    du_NM = p_NM * (dp_NM - load_statistic(delta, rows, request, 0.0)[None, :])
    if scoring.softcap is not None:
        du_NM *= 1 - t_NM * t_NM
    dk_ND = tl.dot(du_NM.to(q_MD.dtype), q_MD, dk_ND, input_precision="ieee")
    return dk_ND, dv_NE


@triton.jit
def _log_sum(lse, rows, request):
    """In units of log 2; +∞, which makes P 0, of rows that saw no key or are none."""
    lse_M = load_statistic(lse, rows, request, INFINITY)
    return tl.where(lse_M == MINUS_INFINITY, INFINITY, lse_M * LOG2_E)


@triton.jit
def _probabilities(s, lse):
    """1 at most, however much huge scores and their log-sum-exp are rounded by; a NaN stays one."""
    return tl.exp2(tl.minimum(s - lse, 0.0, propagate_nan=tl.PropagateNan.ALL))
