"""Normalisation. Legend: T tokens, C channels, leading dimensions free. Statistics in fp32."""

import torch
from torch import Tensor

from octavo.ops.reference.arithmetic import tree_sum


def rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + ε) · w over the last dimension."""
    x32 = x.float()
    mean_square = tree_sum(x32 * x32) / x.shape[-1]
    return (x32 * (1.0 / torch.sqrt(mean_square + eps)) * weight_C.float()).to(x.dtype)


def add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual)."""
    total = x_TC + residual_TC
    return rms_norm(total, weight_C, eps), total


def layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> Tensor:
    """(x − mean) / √(var + ε) · w + b; the variance from centred values, divided by C."""
    x32 = x_TC.float()
    centred = x32 - tree_sum(x32) / x_TC.shape[-1]
    variance = tree_sum(centred * centred) / x_TC.shape[-1]
    y = centred * (1.0 / torch.sqrt(variance + eps)) * weight_C.float()
    if bias_C is not None:
        y = y + bias_C.float()
    return y.to(x_TC.dtype)
