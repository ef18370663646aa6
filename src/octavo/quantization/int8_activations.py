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
        if len(weight.parts) == 1:
            return ops.linear_int8(quantized, weight.parts[0], bias_N)
        y_TN = x_TK.new_empty(x_TK.shape[0], weight.out_features)
        for part, columns in weight.columns():
            bias = None if bias_N is None else bias_N[columns]
            if takes_int8(part):
                ops.linear_int8(quantized, part, bias, out=y_TN[:, columns])
            else:
                ops.linear(x_TK, part, bias, out=y_TN[:, columns])
        return y_TN


def takes_int8(weight: PackedWeight) -> bool:
    """Block formats do; F32, F16 and BF16 weights are multiplied with fp32 activations whatever the option says."""
    return weight.format.is_block_format
