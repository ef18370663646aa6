"""Gated activations. Legend: T tokens, F features of the half that comes out."""

import math

from torch import Tensor

from octavo.ops.reference.arithmetic import exp, tanh


def silu_mul(x_T2F: Tensor) -> Tensor:
    """silu(gate)·up with silu(a) = a / (1 + e^−a); gate is the first half. Shazeer 2020, arXiv 2002.05202 (SwiGLU)."""
    gate, up = x_T2F.float().chunk(2, dim=-1)
    return (gate / (1.0 + exp(-gate)) * up).to(x_T2F.dtype)


def gelu_tanh_mul(x_T2F: Tensor) -> Tensor:
    """gelu(gate)·up with gelu(a) = a/2·(1 + tanh(√(2/π)(a + 0.044715a³))). Hendrycks, Gimpel 2016, arXiv 1606.08415."""
    gate, up = x_T2F.float().chunk(2, dim=-1)
    inner = math.sqrt(2.0 / math.pi) * (gate + 0.044715 * (gate * gate * gate))
    return (0.5 * gate * (1.0 + tanh(inner)) * up).to(x_T2F.dtype)
