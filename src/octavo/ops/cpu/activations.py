"""Native gated activations, fp32. Legend: T tokens, F features that come out."""

from torch import Tensor

from octavo import _native
from octavo.ops.cpu.launch import GATED, launch
from octavo.ops.cpu.tensors import is_fp32_on_cpu, with_dense_rows


def can_gate(x_T2F: Tensor) -> bool:
    return is_fp32_on_cpu(x_T2F)


def silu_mul(x_T2F: Tensor) -> Tensor:
    """silu(gate)·up."""
    return _gate(x_T2F, _native.GatedActivation.SILU)


def gelu_tanh_mul(x_T2F: Tensor) -> Tensor:
    """gelu(gate)·up, gelu's tanh form."""
    return _gate(x_T2F, _native.GatedActivation.GELU_TANH)


def _gate(x_T2F: Tensor, activation: _native.GatedActivation) -> Tensor:
    x = with_dense_rows(x_T2F)
    y_TF = x.new_empty(x.shape[0], x.shape[1] // 2)
    launch(
        GATED,
        x=x,
        x_stride=x.stride(0),
        y=y_TF,
        q=None,
        scales=None,
        sums=None,
        bf16=None,
        is_paired=False,
        rows=y_TF.shape[0],
        features=y_TF.shape[1],
        activation=activation,
    )
    return y_TF
