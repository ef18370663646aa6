"""From q·k to what softmax takes, in units of log 2: scaled, capped, biased; and the mask of dropout.

Legend as in `tiles`. e^s is taken as 2^(s·log₂e), for which GPUs have an instruction. Scores are *plain* that are only scaled,
and by a number above 0: then their largest is that of q·k, scaled.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from octavo.ops.triton.tiles import LOG2_E


class Scoring(NamedTuple):
    """`AttentionOptions`; None: off. The strides of what may be broadcast are 0 there."""

    scale: Any
    softcap: Any
    k_scales: Any
    k_scales_stride: Any
    slopes: Any
    slopes_stride: Any
    bias: Any
    bias_request_stride: Any
    bias_head_stride: Any
    bias_row_stride: Any
    bias_key_stride: Any


class Dropping(NamedTuple):
    """Words of the generator below `threshold` drop; all three as int32 of the same bits."""

    threshold: Any
    seed_low: Any
    seed_high: Any


@triton.jit
def score_scale(scoring, request, kv_head, IS_PLAIN: tl.constexpr):
    """What q·k is multiplied with: to units of log 2 if plain, else before cap and bias."""
    scale = scoring.scale
    if scoring.k_scales is not None:
        scale *= tl.load(scoring.k_scales + request.index.to(tl.int64) * scoring.k_scales_stride + kv_head)
    if IS_PLAIN:
        scale *= LOG2_E
    return scale


@triton.jit
def row_slopes(scoring, request, rows):
    """Of each row; 0 without slopes."""
    if scoring.slopes is None:
        return 0.0
    else:
        slopes = scoring.slopes + request.index.to(tl.int64) * scoring.slopes_stride
        return tl.load(slopes + rows.head)


@triton.jit
def scores(u, scale, slopes, rows, keys, request, scoring, IS_PLAIN: tl.constexpr):
    """(log₂e·(cap(scale·u) − slope·|p − j| + bias), tanh(scale·u / softcap)), of u = q·k; without a cap the second means nothing.

    Slopes and rows go along one axis of u, keys along the other.
    """
    s = u * scale
    t = s
    if not IS_PLAIN:
        if scoring.softcap is not None:
            t = tanh(s / scoring.softcap)
            s = t * scoring.softcap
        if scoring.slopes is not None:
            s -= slopes * tl.abs(rows.position - keys).to(tl.float32)
        if scoring.bias is not None:
            row = rows.head.to(tl.int64) * scoring.bias_head_stride + rows.index.to(tl.int64) * scoring.bias_row_stride
            row += request.index.to(tl.int64) * scoring.bias_request_stride
            pointers = scoring.bias + (row + keys.to(tl.int64) * scoring.bias_key_stride)
            s += tl.load(pointers, mask=rows.is_real & (keys < request.num_keys), other=0.0)
        s *= LOG2_E
    return s, t


@triton.jit
def tanh(x):
    """1 − 2 / (1 + e^2x); near 0, where that cancels, the series to x⁹."""
    y = x * x
    series = x * (1 + y * (-1 / 3 + y * (2 / 15 + y * (-17 / 315 + y * (62 / 2835)))))
    return tl.where(tl.abs(x) < 0.3, series, 1 - 2 / (1 + tl.exp2(x * (2 * LOG2_E))))


@triton.jit
def is_kept(dropping, rows, start, request, BLOCK_N: tl.constexpr):
    """The mask of `Dropout` for the keys from `start`, a multiple of 4, on: (M, N). One counter serves four keys."""
    counter_N = start // 4 + tl.arange(0, BLOCK_N // 4)
    c0 = (rows.index[:, None] * 0 + counter_N[None, :]).to(tl.uint32, bitcast=True)
    c1 = (rows.index[:, None] + counter_N[None, :] * 0).to(tl.uint32, bitcast=True)
    c2 = (rows.head[:, None] + counter_N[None, :] * 0).to(tl.uint32, bitcast=True)
    c3 = (request.index + counter_N[None, :] * 0 + rows.index[:, None] * 0).to(tl.uint32, bitcast=True)
    k0 = dropping.seed_low.to(tl.uint32, bitcast=True)
    k1 = dropping.seed_high.to(tl.uint32, bitcast=True)
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3)).reshape(w0.shape[0], BLOCK_N)
    return words >= dropping.threshold.to(tl.uint32, bitcast=True)


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox-4x32-10 (Salmon et al. 2011, section 3): four words for each counter, uint32."""
    A: tl.constexpr = 0xD2511F53
    B: tl.constexpr = 0xCD9E8D57
    for _ in tl.static_range(10):
        high = tl.umulhi(c0, tl.full((), A, tl.uint32))
        low = tl.umulhi(c2, tl.full((), B, tl.uint32))
        c0, c1, c2, c3 = low ^ c1 ^ k0, c2 * B, high ^ c3 ^ k1, c0 * A
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3
