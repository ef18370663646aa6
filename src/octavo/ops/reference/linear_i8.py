"""Weights as bytes with one scale an output feature, and activations with one a token. Legend: T, K, N as in linear.py.

A sum over K is one exact integer, scaled once: every kernel of this arithmetic gives the same bits.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from octavo.ops.quantized_activations import QuantizedRows, padded_size
from octavo.ops.reference.dequantize import dequantize_rows, split_i8
from octavo.ops.weights import PackedWeight, StoredWeight, WeightFormat

SMALLEST_MAXIMUM = 2.0**-100
"""Rows whose largest magnitude is below this count as zero: 127 / maximum must not overflow."""


def quantize_weight(weight: StoredWeight) -> StoredWeight:
    """w = w·(127 / m) to nearest even with the scale m / 127, m = max|w| over a row. O(N·K)."""
    codes_NK, scales_N1 = _quantize(dequantize_rows(weight.data, weight.format))
    data = torch.cat(
        (scales_N1.clone(memory_format=torch.contiguous_format).view(torch.uint8), codes_NK.view(torch.uint8)), dim=1
    )
    return replace(weight, data=data, format=WeightFormat.I8)


def quantize_rows(x_TK: Tensor) -> QuantizedRows:
    """q = x·(127 / m) to nearest even and scale = m / 127, m = max|x| over a token's row.

    A row with an infinity or a NaN gets the scale NaN and q = 0, so that it shows in every output.
    """
    q_TK, scale_T1 = _quantize(x_TK.float())
    q_TP = functional.pad(q_TK, (0, padded_size(q_TK.shape[1]) - q_TK.shape[1]))
    return QuantizedRows(q_TP, scale_T1[:, 0].contiguous(), q_TP.sum(-1, dtype=torch.int32))


def _quantize(x_RC: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 (R, C), scales (R, 1))."""
    if x_RC.shape[1] == 0:
        return x_RC.to(torch.int8), x_RC.new_zeros(x_RC.shape[0], 1)
    is_finite_R1 = x_RC.isfinite().all(-1, keepdim=True)
    x_RC = torch.where(is_finite_R1, x_RC, 0.0)
    maximum_R1 = x_RC.abs().amax(-1, keepdim=True)
    is_zero_R1 = maximum_R1 < SMALLEST_MAXIMUM
    inverse_R1 = torch.where(is_zero_R1, 0.0, torch.full_like(maximum_R1, 127.0) / maximum_R1)
    scale_R1 = torch.where(is_zero_R1, 0.0, maximum_R1 / torch.full_like(maximum_R1, 127.0))
    codes_RC = torch.round(x_RC * inverse_R1).to(torch.int8)
    return codes_RC, torch.where(is_finite_R1, scale_R1, torch.nan)


def linear_i8(x: QuantizedRows, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = float(Σ_k w·q)·(scale_x·scale_w) + b, (T, N) fp32."""
    codes_NK, scales_N1 = split_i8(weight.data)
    q_TK = x.q_TP[:, : weight.in_features]
    sums_TN = (q_TK.double() @ codes_NK.double().T).float()  # of integers below 2⁵³: exact, then rounded once
    y_TN = sums_TN * (x.scales_T[:, None] * scales_N1.T)
    y_TN = y_TN if bias_N is None else y_TN + bias_N.float()
    return y_TN if out_TN is None else out_TN.copy_(y_TN)
