"""Normalisation: checked signatures. Legend: T tokens, H heads, C channels, D head size."""

from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, check_positive, check_tensor
from octavo.ops.errors import OpArgumentError


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """y = x / √(mean(x²) + ε) · w over the last dimension, in fp32; y is new, of x's shape and dtype.

    x (T, C) with weight (C,), or x (T, H, D) with weight (D,) for norms a head.
    Zhang, Sennrich 2019, arXiv 1910.07467.
    """
    if x.dim() not in (2, 3):
        raise OpArgumentError(
            f"x has the wrong shape: got {tuple(x.shape)}; allowed (tokens, channels) or (tokens, heads, head size)",
            param="x",
        )
    _check_rows(x, weight, eps)
    return table.RMS_NORM(x, weight, eps)


def add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual): the block's next input and its next residual, both new."""
    check_tensor("x", x_TC, (None, None), FLOAT_DTYPES, x_TC.device)
    check_tensor("residual", residual_TC, tuple(x_TC.shape), (x_TC.dtype,), x_TC.device)
    _check_rows(x_TC, weight_C, eps)
    return table.ADD_RMS_NORM(x_TC, residual_TC, weight_C, eps)


def layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> Tensor:
    """y = (x − mean) / √(var + ε) · w + b over the last dimension, in fp32; y is new, of x's dtype.

    Ba et al. 2016, arXiv 1607.06450.
    """
    check_tensor("x", x_TC, (None, None), FLOAT_DTYPES, x_TC.device)
    _check_rows(x_TC, weight_C, eps)
    if bias_C is not None:
        check_tensor("bias", bias_C, (x_TC.shape[1],), FLOAT_DTYPES, x_TC.device)
    return table.LAYER_NORM(x_TC, weight_C, bias_C, eps)


def _check_rows(x: Tensor, weight_C: Tensor, eps: float) -> None:
    check_tensor("x", x, tuple(x.shape), FLOAT_DTYPES, x.device)
    if x.shape[-1] == 0:
        raise OpArgumentError("x has no channels: got 0; allowed 1 or more", param="x")
    check_tensor("weight", weight_C, (x.shape[-1],), FLOAT_DTYPES, x.device)
    check_positive("eps", eps)
