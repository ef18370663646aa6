"""Tiles of keys merged online into a tile of rows (Dao 2023, arXiv 2307.08691, algorithm 1). Legend as in `tiles`."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from octavo.ops.triton.scores import is_kept, row_slopes, score_scale, scores
from octavo.ops.triton.tiles import (
    LN_2,
    LOG2_E,
    MINUS_INFINITY,
    as_column,
    blocks_of,
    decoded,
    is_visible,
    key_tiles,
    load_keys,
)


class Sum(NamedTuple):
    """Of the keys met so far: the largest score m (M,) and Σ 2^(s − m) (M,), in units of log 2, and Σ 2^(s − m)·v (M, E)."""

    largest: Any
    denominator: Any
    weighted: Any


@triton.jit
def attend(
    q_MD, rows, request, kv_head, k, v, scoring, window, dropping, seen,
    D: tl.constexpr, E: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr, IS_PLAIN: tl.constexpr,
):  # fmt: skip
    """The sum over the keys `seen`. A tile that all rows see whole is met without a mask."""
    keys = key_tiles(k, request, kv_head, BLOCK_SIZE)
    values = key_tiles(v, request, kv_head, BLOCK_SIZE)
    scale = score_scale(scoring, request, kv_head, IS_PLAIN)
    slopes = row_slopes(scoring, request, as_column(rows))
    largest = tl.full((BLOCK_M,), MINUS_INFINITY, tl.float32)
    denominator = tl.zeros((BLOCK_M,), tl.float32)
    sums = tl.zeros((BLOCK_M, BLOCK_E), tl.float32)
    start = seen.first // BLOCK_N * BLOCK_N
    blocks = blocks_of(request, start, seen, BLOCK_N, BLOCK_SIZE)
    if window.left is not None:
        for n in tl.range(start, tl.minimum(seen.full_first, seen.stop), BLOCK_N):
            largest, denominator, sums, blocks = _meet(
                largest, denominator, sums, blocks, q_MD, rows, request, keys, values, scoring, window, dropping, seen, n,
                scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, True,
            )  # fmt: skip
        start = seen.full_first
    for n in tl.range(start, seen.full_stop, BLOCK_N):
        largest, denominator, sums, blocks = _meet(
            largest, denominator, sums, blocks, q_MD, rows, request, keys, values, scoring, window, dropping, seen, n,
            scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, False,
        )  # fmt: skip
    for n in tl.range(tl.maximum(start, seen.full_stop), seen.stop, BLOCK_N):
        largest, denominator, sums, blocks = _meet(
            largest, denominator, sums, blocks, q_MD, rows, request, keys, values, scoring, window, dropping, seen, n,
            scale, slopes, D, E, BLOCK_N, BLOCK_D, BLOCK_E, BLOCK_SIZE, IS_PLAIN, True,
        )  # fmt: skip
    return Sum(largest=largest, denominator=denominator, weighted=sums)


@triton.jit
def _meet(
    largest, denominator, sums, blocks, q_MD, rows, request, k, v, scoring, window, dropping, seen, start,
    scale, slopes, D: tl.constexpr, E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_SIZE: tl.constexpr, IS_PLAIN: tl.constexpr, IS_MASKED: tl.constexpr,
):  # fmt: skip
    """The sum with one more tile of keys. One of which a row sees nothing changes no bit of the row's."""
    keys = (start + tl.arange(0, BLOCK_N))[None, :]
    following = blocks_of(request, start + BLOCK_N, seen, BLOCK_N, BLOCK_SIZE)
    k_ND = load_keys(k, request, blocks, start, seen, D, BLOCK_D, BLOCK_N, BLOCK_SIZE, IS_MASKED)
    u_MN = tl.dot(q_MD, tl.trans(decoded(k_ND, q_MD.dtype)), input_precision="ieee")
    column = as_column(rows)
    if IS_PLAIN:
        if IS_MASKED:
            u_MN = tl.where(is_visible(column, keys, request, window), u_MN, MINUS_INFINITY)
        merged = tl.maximum(largest, tl.max(u_MN, 1) * scale)
        shift = tl.where(merged == MINUS_INFINITY, 0.0, merged)
        x_MN = u_MN * scale - shift[:, None]
    else:
        s_MN, _ = scores(u_MN, scale, slopes, column, keys, request, scoring, IS_PLAIN)
        if IS_MASKED:
            s_MN = tl.where(is_visible(column, keys, request, window), s_MN, MINUS_INFINITY)
        merged = tl.maximum(largest, tl.max(s_MN, 1))
        shift = tl.where(merged == MINUS_INFINITY, 0.0, merged)
        x_MN = s_MN - shift[:, None]
    # A fused product is not rounded as the shift is: above 0 by any number, where scores are huge. From 1 on none is right.
    p_MN = tl.exp2(tl.minimum(x_MN, 1.0, propagate_nan=tl.PropagateNan.ALL))
    rescale = tl.exp2(largest - shift)
    denominator = denominator * rescale + tl.sum(p_MN, 1)
    if dropping is not None:
        p_MN = tl.where(is_kept(dropping, rows, start, request, BLOCK_N), p_MN, 0.0)
    v_NE = load_keys(v, request, blocks, start, seen, E, BLOCK_E, BLOCK_N, BLOCK_SIZE, IS_MASKED)
    sums = tl.dot(p_MN.to(q_MD.dtype), decoded(v_NE, q_MD.dtype), sums * rescale[:, None], input_precision="ieee")
    return merged, denominator, sums, following


@triton.jit
def finish(total, heads, factor, sinks, v_scales, v_scales_stride, request, kv_head):
    """(o (…, E), lse (…)) of rows whose keys are all met; `factor` is 1 / (1 − probability) of dropout.

    Sinks join the denominator (Xiao et al. 2023, arXiv 2309.17453). A row without keys or sink gives 0 and −∞.
    """
    largest, denominator, values = total
    if sinks is not None:
        sink = tl.load(sinks + heads).to(tl.float32) * LOG2_E
        merged = tl.maximum(largest, sink)
        shift = tl.where(merged == MINUS_INFINITY, 0.0, merged)
        rescale = tl.exp2(largest - shift)
        denominator = denominator * rescale + tl.exp2(sink - shift)
        values = values * rescale[:, None]
        largest = merged
    if v_scales is not None:
        factor *= tl.load(v_scales + request.index.to(tl.int64) * v_scales_stride + kv_head)
    o = tl.where(denominator == 0, 0.0, factor / denominator)[:, None] * values
    return o, (largest + tl.log2(denominator)) * LN_2
