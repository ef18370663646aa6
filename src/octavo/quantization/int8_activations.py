"""Weights of block formats and of I8 are multiplied with activations quantised to bytes; others as stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.ops import PackedWeight, QuantizedActivations, QuantizedRows, StoredWeight, WeightFormat
from octavo.quantization.as_stored import AsStored
from octavo.quantization.method import StackedWeight


@dataclass(frozen=True, slots=True)
class Int8Activations:
    """An input is quantised once for all the weights stacked on it that take bytes of one kind.

    Block formats take a scale for every token and group of 32, as their own scales are; I8 takes one a token.
    """

    as_stored: AsStored
    """Loads all weights, and applies those that do not take bytes."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        return self.as_stored.load(weights)

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        if not any(takes_int8(part) for part in weight.parts):
            return self.as_stored.apply(x_TK, weight, bias_N)
        groups = ops.quantize_activations(x_TK) if any(part.format.is_block_format for part in weight.parts) else None
        rows = ops.quantize_rows(x_TK) if any(part.format is WeightFormat.I8 for part in weight.parts) else None
        if len(weight.parts) == 1:
            return _apply(x_TK, groups, rows, weight.parts[0], bias_N, None)
        y_TN = x_TK.new_empty(x_TK.shape[0], weight.out_features)
        for part, columns in weight.columns():
            _apply(x_TK, groups, rows, part, None if bias_N is None else bias_N[columns], y_TN[:, columns])
        return y_TN


def _apply(
    x_TK: Tensor,
    groups: QuantizedActivations | None,
    rows: QuantizedRows | None,
    part: PackedWeight,
    bias_N: Tensor | None,
    out_TN: Tensor | None,
) -> Tensor:
    """One weight, with what it takes of an input."""
    if groups is not None and part.format.is_block_format:
        return ops.linear_int8(groups, part, bias_N, out=out_TN)
    if rows is not None and part.format is WeightFormat.I8:
        return ops.linear_i8(rows, part, bias_N, out=out_TN)
    return ops.linear(x_TK, part, bias_N, out=out_TN)


def takes_int8(weight: PackedWeight) -> bool:
    """Block formats and I8 do; F32, F16 and BF16 weights are multiplied with fp32 activations whatever the option says."""
    return weight.format.is_block_format or weight.format is WeightFormat.I8
