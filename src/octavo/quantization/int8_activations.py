"""Weights of block formats are multiplied with activations quantised to bytes; others as stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.ops import PackedWeight, StoredWeight
from octavo.quantization.as_stored import AsStored
from octavo.quantization.method import StackedWeight


@dataclass(frozen=True, slots=True)
class Int8Activations:
    """An input is quantised once, per token and group of 32, for all the weights stacked on it that take bytes."""

    as_stored: AsStored
    """Loads all weights, and applies those that do not take bytes."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        return self.as_stored.load(weights)

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        if not any(takes_int8(part) for part in weight.parts):
            return self.as_stored.apply(x_TK, weight, bias_N)
        quantized = ops.quantize_activations(x_TK)

        def linear(part: PackedWeight, bias: Tensor | None, out: Tensor | None) -> Tensor:
            return (
                ops.linear_int8(quantized, part, bias, out=out)
                if takes_int8(part)
                else ops.linear(x_TK, part, bias, out=out)
            )

        return weight.apply(x_TK, bias_N, linear)


def takes_int8(weight: PackedWeight) -> bool:
    """Block formats do; F32, F16 and BF16 weights are multiplied with fp32 activations whatever the option says."""
    return weight.format.is_block_format
