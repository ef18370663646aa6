"""Float weights become bytes at load, with one scale an output feature."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.ops import StoredWeight, WeightFormat
from octavo.quantization.method import LinearMethod, StackedWeight

_FLOATS = (WeightFormat.F32, WeightFormat.F16, WeightFormat.BF16)


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """F32, F16 and BF16 weights are loaded as I8; those that a file holds quantised stay as they are."""

    method: LinearMethod
    """Loads what the weights have become, and applies them."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        return self.method.load([ops.quantize_weight(each) if each.format in _FLOATS else each for each in weights])

    def for_head(self) -> "Int8Weights":
        return Int8Weights(self.method.for_head())

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        return self.method.apply(x_TK, weight, bias_N)
