"""Native gated activations, fp32. Legend: T tokens, F features that come out."""

from torch import Tensor

from octavo import _native
from octavo.ops.cpu.tensors import address, is_fp32_on_cpu, with_dense_rows


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
    _native.gated(address(x), x.stride(0), address(y_TF), y_TF.shape[0], y_TF.shape[1], activation)
    return y_TF
