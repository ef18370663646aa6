"""Attention's forward kernels: one pass over all keys, and passes over keys in splits at fixed positions with their merge.

Legend as in `tiles`; S splits, F folded rows of a request and KV head.
"""

import triton
import triton.language as tl

from octavo.ops.triton.scores import Dropping
from octavo.ops.triton.softmax import Sum, attend, finish
from octavo.ops.triton.tiles import (
    MINUS_INFINITY,
    find_owner,
    fold_rows,
    load_request,
    load_rows,
    row_tile,
    store_rows,
    store_statistic,
    visible_keys,
)


@triton.jit(do_not_specialize=["num_requests", "min_rows", "threshold", "seed_low", "seed_high"])
def forward_kernel(
    q, k, v, o, lse, plan, scoring, window, sinks, v_scales, v_scales_stride, factor, num_requests, min_rows,
    threshold, seed_low, seed_high,
    D: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr, COMPUTE: tl.constexpr,
    IS_PLAIN: tl.constexpr, HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    """A tile of folded rows over all keys: grid (tiles, KV heads). Requests of fewer than `min_rows` rows are passed over.

    FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1); last tiles, which see the most keys if causal, start first.
    """
    kv_head = tl.program_id(1)
    last = tl.num_programs(0) - 1
    index, tile = find_owner(plan.query_starts, num_requests, last - tl.program_id(0), GROUP, BLOCK_M)
    request = load_request(plan, index)
    if request.num_rows < min_rows or tile * BLOCK_M >= request.num_rows * GROUP:
        return
    at = row_tile(request, kv_head, tile, GROUP, BLOCK_M)
    seen = visible_keys(request, window, tile, 0, request.num_keys, GROUP, BLOCK_M, BLOCK_N)
    dropping = None
    if HAS_DROPOUT:
        dropping = Dropping(threshold=threshold, seed_low=seed_low, seed_high=seed_high)
    q_MD = load_rows(q, at, request, D, BLOCK_D).to(COMPUTE)
    total = attend(
        q_MD, fold_rows(request, at), request, kv_head, k, v, scoring, window, dropping, seen,
        D, E, BLOCK_M, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN,
    )  # fmt: skip
    _store(total, at, request, kv_head, o, lse, sinks, v_scales, v_scales_stride, factor, E, BLOCK_E)


@triton.jit(do_not_specialize=["first_request", "max_rows", "threshold", "seed_low", "seed_high", "num_splits"])
def split_kernel(
    q, k, v, o, lse, plan, scoring, window, sinks, v_scales, v_scales_stride, factor, first_request, max_rows,
    threshold, seed_low, seed_high, parts, statistics, num_splits,
    D: tl.constexpr, E: tl.constexpr, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr, SPLIT: tl.constexpr,
    COMPUTE: tl.constexpr, IS_PLAIN: tl.constexpr, HAS_DROPOUT: tl.constexpr,
):  # fmt: skip
    """A tile of folded rows over one split of SPLIT keys: grid (splits · tiles, KV heads, requests).

    Requests of more than `max_rows` rows are passed over. The sums go to `parts` (requests, KV heads, F, S, E), and to `statistics`
    (requests, KV heads, F, S, 2) m and Σ 2^(s − m), for `merge_kernel`; without `parts` there is one split, and its result goes to o.
    """
    tl.static_assert(SPLIT % BLOCK_N == 0)
    kv_head = tl.program_id(1)
    split = tl.program_id(0) % num_splits
    tile = tl.program_id(0) // num_splits
    request = load_request(plan, first_request + tl.program_id(2))
    if request.num_rows > max_rows or tile * BLOCK_M >= request.num_rows * GROUP:
        return
    at = row_tile(request, kv_head, tile, GROUP, BLOCK_M)
    seen = visible_keys(request, window, tile, split * SPLIT, (split + 1) * SPLIT, GROUP, BLOCK_M, BLOCK_N)
    if parts is not None and seen.first >= seen.stop:
        return
    dropping = None
    if HAS_DROPOUT:
        dropping = Dropping(threshold=threshold, seed_low=seed_low, seed_high=seed_high)
    q_MD = load_rows(q, at, request, D, BLOCK_D).to(COMPUTE)
    total = attend(
        q_MD, fold_rows(request, at), request, kv_head, k, v, scoring, window, dropping, seen,
        D, E, BLOCK_M, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN,
    )  # fmt: skip
    if parts is None:
        _store(total, at, request, kv_head, o, lse, sinks, v_scales, v_scales_stride, factor, E, BLOCK_E)
    else:
        is_real = fold_rows(request, at).is_real
        folded_M = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        size = tl.arange(0, BLOCK_E)
        part_M = (_first_part(kv_head, max_rows, GROUP) + folded_M) * num_splits + split
        tl.store(statistics + part_M * 2, total.largest, mask=is_real)
        tl.store(statistics + part_M * 2 + 1, total.denominator, mask=is_real)
        tl.store(
            parts + part_M[:, None] * E + size[None, :],
            total.weighted,
            mask=is_real[:, None] & (size < E)[None, :],
        )


@triton.jit(do_not_specialize=["first_request", "max_rows", "num_splits"])
def merge_kernel(
    o, lse, plan, window, sinks, v_scales, v_scales_stride, factor, first_request, max_rows, parts, statistics, num_splits,
    E: tl.constexpr, GROUP: tl.constexpr, BLOCK_E: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """A row's splits in their order: grid (folded rows, KV heads, requests).

        m = max_s m_s,   o = Σ_s 2^(m_s − m)·o_s / Σ_s 2^(m_s − m)·l_s

    Only splits that the row sees are looked at, so that their number elsewhere changes no bit.
    """
    kv_head = tl.program_id(1)
    request = load_request(plan, first_request + tl.program_id(2))
    tile = tl.program_id(0)
    if request.num_rows > max_rows or tile >= request.num_rows * GROUP:
        return
    at = row_tile(request, kv_head, tile, GROUP, 1)
    seen = visible_keys(request, window, tile, 0, request.num_keys, GROUP, 1, SPLIT)
    first_split = seen.first // SPLIT
    stop_split = tl.where(seen.first < seen.stop, tl.cdiv(seen.stop, SPLIT), first_split)
    part = (_first_part(kv_head, max_rows, GROUP) + tile) * num_splits
    largest = tl.full((1,), MINUS_INFINITY, tl.float32)
    for split in tl.range(first_split, stop_split, loop_unroll_factor=4):
        largest = tl.maximum(largest, tl.load(statistics + (part + split) * 2))
    shift = tl.where(largest == MINUS_INFINITY, 0.0, largest)
    size = tl.arange(0, BLOCK_E)
    denominator = tl.zeros((1,), tl.float32)
    values = tl.zeros((1, BLOCK_E), tl.float32)
    for split in tl.range(first_split, stop_split, loop_unroll_factor=4):
        weight = tl.exp2(tl.load(statistics + (part + split) * 2) - shift)
        denominator += weight * tl.load(statistics + (part + split) * 2 + 1)
        part_E = tl.load(parts + (part + split) * E + size, mask=size < E, other=0.0)
        values += weight[:, None] * part_E[None, :]
    total = Sum(largest=largest, denominator=denominator, weighted=values)
    _store(total, at, request, kv_head, o, lse, sinks, v_scales, v_scales_stride, factor, E, BLOCK_E)


@triton.jit
def _first_part(kv_head, max_rows, GROUP: tl.constexpr):
    """The first folded row of this program's request and KV head, among all that `parts` has."""
    return (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + kv_head) * (max_rows * GROUP)


@triton.jit
def _store(total, at, request, kv_head, o, lse, sinks, v_scales, v_scales_stride, factor, E, BLOCK_E):
    rows = fold_rows(request, at)
    o_ME, lse_M = finish(total, rows.head, factor, sinks, v_scales, v_scales_stride, request, kv_head)
    store_rows(o, at, request, o_ME, E, BLOCK_E)
    if lse.start is not None:
        store_statistic(lse, rows, request, lse_M)
