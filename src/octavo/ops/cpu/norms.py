"""Native normalisation, fp32. Legend: T tokens, C channels."""

from torch import Tensor

from octavo.ops.cpu.launch import LAYER_NORM, RMS_NORM, launch
from octavo.ops.cpu.tensors import is_fp32_on_cpu, optional_vector, vector, with_dense_rows


def can_rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> bool:
    return is_fp32_on_cpu(x)


def rms_norm(x: Tensor, weight_C: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + ε) · w over the last dimension."""
    if x.stride(-1) != 1:
        x = x.contiguous()
    num_heads = x.shape[1] if x.dim() == 3 else 1
    y = x.new_empty(x.shape)
    launch(
        RMS_NORM,
        x=x,
        x_stride=x.stride(0),
        head_stride=x.stride(1) if x.dim() == 3 else 0,
        residual=None,
        total=None,
        weight=vector(weight_C),
        y=y,
        q=None,
        scales=None,
        sums=None,
        bf16=None,
        is_paired=False,
        rows=x.shape[0] * num_heads,
        heads=num_heads,
        channels=x.shape[-1],
        eps=eps,
    )
    return y


def can_add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> bool:
    return is_fp32_on_cpu(x_TC)


def add_rms_norm(x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual), in one pass."""
    x = with_dense_rows(x_TC)
    y_TC, total_TC = x.new_empty(x.shape), x.new_empty(x.shape)
    launch(
        RMS_NORM,
        x=x,
        x_stride=x.stride(0),
        head_stride=0,
        residual=residual_TC.contiguous(),
        total=total_TC,
        weight=vector(weight_C),
        y=y_TC,
        q=None,
        scales=None,
        sums=None,
        bf16=None,
        is_paired=False,
        rows=x.shape[0],
        heads=1,
        channels=x.shape[1],
        eps=eps,
    )
    return y_TC, total_TC


def can_layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> bool:
    return is_fp32_on_cpu(x_TC)


def layer_norm(x_TC: Tensor, weight_C: Tensor, bias_C: Tensor | None, eps: float) -> Tensor:
    """(x − mean) / √(var + ε) · w + b."""
    x = with_dense_rows(x_TC)
    y_TC = x.new_empty(x.shape)
    launch(
        LAYER_NORM,
        x=x,
        x_stride=x.stride(0),
        weight=vector(weight_C),
        bias=optional_vector(bias_C),
        y=y_TC,
        rows=x.shape[0],
        channels=x.shape[1],
        eps=eps,
    )
    return y_TC
