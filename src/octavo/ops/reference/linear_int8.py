"""Matrix products of packed weights with activations as bytes. Legend: T tokens, K in features, N out features, G groups.

Integer sums are exact, and every operation on floats is rounded once, in one written order: kernels
of this arithmetic agree in every bit, whatever their tiles, lanes and instruction sets.
"""

import torch
from torch import Tensor

from octavo.ops.quantized_activations import GROUP_SIZE, QuantizedActivations
from octavo.ops.reference.arithmetic import fused_multiply_add
from octavo.ops.reference.dequantize import split_rows
from octavo.ops.weights import PackedWeight

SMALLEST_MAXIMUM = 2.0**-100
"""Groups whose largest magnitude is below this count as zero: 127 / maximum must not overflow."""


def quantize_activations(x_TK: Tensor) -> QuantizedActivations:
    """q = x·(127 / m) to nearest even and scale = m / 127, m = max|x| over a token's group of 32.

    A group with an infinity or a NaN gets the scale NaN and q = 0, so that it shows in every output.
    """
    num_tokens, in_features = x_TK.shape
    x_TGE = x_TK.float().reshape(num_tokens, in_features // GROUP_SIZE, GROUP_SIZE)
    is_finite_TG1 = x_TGE.isfinite().all(-1, keepdim=True)
    x_TGE = torch.where(is_finite_TG1, x_TGE, torch.zeros_like(x_TGE))
    maximum_TG1 = x_TGE.abs().amax(-1, keepdim=True)
    is_zero_TG1 = maximum_TG1 < SMALLEST_MAXIMUM
    inverse_TG1 = torch.where(is_zero_TG1, 0.0, torch.full_like(maximum_TG1, 127.0) / maximum_TG1)
    q_TK = torch.round(x_TGE * inverse_TG1).to(torch.int8).reshape(num_tokens, in_features)
    scale_TG1 = torch.where(is_zero_TG1, 0.0, maximum_TG1 / torch.full_like(maximum_TG1, 127.0))
    scale_TG1 = torch.where(is_finite_TG1, scale_TG1, torch.nan)
    halves_THE = q_TK.reshape(num_tokens, 2 * in_features // GROUP_SIZE, GROUP_SIZE // 2).to(torch.int32)
    sums_HT = halves_THE.sum(-1, dtype=torch.int32).T.contiguous()
    return QuantizedActivations(q_TK, scale_TG1[..., 0].T.contiguous(), sums_HT)


def linear_int8(x: QuantizedActivations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y (T, N) fp32. For groups g of 32 k in rising order, and units u of a group (Q6_K: its halves; else the group):

        y ← fma(Σ_k code·q, scale_g·step_u, y);    then, for formats with a minimum, y ← fma(scale_g·Σ_k q, minimum_g, y)

    and at last y + b. The codes are signed where the format's are centred (Q4_0: −8 … 7).
    """
    rows = split_rows(weight.data, weight.format)
    codes_NK, q_TK = rows.codes_NK.float(), x.q_TK.float()
    unit = x.in_features // rows.steps_NU.shape[1] if x.in_features else GROUP_SIZE
    units = GROUP_SIZE // min(unit, GROUP_SIZE)
    y_TN = torch.zeros(x.num_tokens, weight.out_features)
    for group in range(x.in_features // GROUP_SIZE):
        scale_T1 = x.scales_GT[group, :, None]
        for u in range(group * units, (group + 1) * units):
            k = slice(u * GROUP_SIZE // units, (u + 1) * GROUP_SIZE // units)
            dots_TN = q_TK[:, k] @ codes_NK[:, k].T  # of integers below 2²⁴: exact
            y_TN = fused_multiply_add(dots_TN, scale_T1 * rows.steps_NU[:, u], y_TN)
        if rows.minimums_NG is not None:
            sum_T1 = x.sums_HT[2 * group : 2 * group + 2].sum(0)[:, None].float()
            y_TN = fused_multiply_add(scale_T1 * sum_T1, rows.minimums_NG[:, group], y_TN)
    if bias_N is not None:
        y_TN = y_TN + bias_N.float()
    return y_TN if out_TN is None else out_TN.copy_(y_TN)
