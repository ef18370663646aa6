"""Native normalisation, fp32. Legend: T tokens, C channels."""

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.cpu.tensors import address, is_dense_but_first, is_fp32_on_cpu, optional_vector, vector, with_dense_rows


def can_rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> bool:
    return is_fp32_on_cpu(x)


def rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + ε) · w over the last dimension."""
    rows, weight = _rows(x), vector(weight_C)
    y = torch.empty(x.shape)
    _native.rms_norm(
        address(rows), rows.stride(0), 0, 0, address(weight), address(y), rows.shape[0], rows.shape[1], eps
    )
    return y


def can_add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> bool:
    return is_fp32_on_cpu(x_TC)


def add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual), in one pass."""
    x, residual, weight = with_dense_rows(x_TC), residual_TC.contiguous(), vector(weight_C)
    y_TC, total_TC = torch.empty(x.shape), torch.empty(x.shape)
    _native.rms_norm(
        address(x),
        x.stride(0),
        address(residual),
        address(total_TC),
        address(weight),
        address(y_TC),
        x.shape[0],
        x.shape[1],
        eps,
    )
    return y_TC, total_TC


def can_layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> bool:
    return is_fp32_on_cpu(x_TC)


def layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> Tensor:
    """(x − mean) / √(var + ε) · w + b."""
    x, weight, bias = with_dense_rows(x_TC), vector(weight_C), optional_vector(bias_C)
    y_TC = torch.empty(x.shape)
    _native.layer_norm(
        address(x), x.stride(0), address(weight), address(bias), address(y_TC), x.shape[0], x.shape[1], eps
    )
    return y_TC


def _rows(x: Tensor) -> Tensor:
    """(T, C) or (T, H, D) as a matrix of rows with one stride between them, a copy where it has two."""
    if x.dim() == 2:
        return with_dense_rows(x)
    return x.view(-1, x.shape[-1]) if x.is_contiguous() else _merge_heads(x)


def _merge_heads(x_THD: Tensor) -> Tensor:
    if x_THD.shape[0] == 1 and is_dense_but_first(x_THD):
        return x_THD[0]
    return x_THD.reshape(-1, x_THD.shape[-1]).contiguous()
