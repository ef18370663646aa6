"""The gated feed-forward layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.layers.linear import Linear

GATED_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": ops.silu_mul,
    "gelu_pytorch_tanh": ops.gelu_tanh_mul,
    "gelu_tanh": ops.gelu_tanh_mul,
}
"""config.json's name → act(first half) · second half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMLPSpec:
    intermediate_size: int
    activation: str
    """As config.json names it; see `GATED_ACTIVATIONS`."""
    has_bias: bool = False


class GatedMLP:
    """y = W_down (act(W_gate x) · W_up x) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, gate_up: Linear, down: Linear, activation: str) -> None:
        self.gate_up = gate_up
        self.down = down
        self.activation = GATED_ACTIVATIONS[activation]

    def __call__(self, x_TC: Tensor) -> Tensor:
        return self.down(self.activation(self.gate_up(x_TC)))
