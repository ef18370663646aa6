"""Weights of packed formats are multiplied with activations in bf16; those of fp32 as stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.ops import PackedWeight, StoredWeight, WeightFormat
from octavo.quantization.as_stored import AsStored
from octavo.quantization.method import StackedWeight

TILE_SIZE = 32
"""in_features of a weight that AMX's tiles take are multiples of it."""


@dataclass(frozen=True, slots=True)
class Bf16Activations:
    """An input is rounded once for all the weights stacked on it; W becomes bf16 inside the kernel, sums are fp32.

    For processors with AMX (`ops.has_bf16_tiles`): less error than activations of a byte, and more speed.
    """

    as_stored: AsStored
    """Loads all weights, and applies those that do not take bf16."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        return self.as_stored.load(weights)

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        if not any(takes_bf16(part) for part in weight.parts):
            return self.as_stored.apply(x_TK, weight, bias_N)
        rounded = ops.round_bf16(x_TK)

        def linear(part: PackedWeight, bias: Tensor | None, out: Tensor | None) -> Tensor:
            if takes_bf16(part):
                return ops.linear_bf16(rounded, part, bias, out=out)
            return ops.linear(x_TK, part, bias, out=out)

        return weight.apply(x_TK, bias_N, linear)


def takes_bf16(weight: PackedWeight) -> bool:
    return weight.format is not WeightFormat.F32 and weight.in_features % TILE_SIZE == 0
