"""Packed weights are multiplied with activations of fewer bits: bytes, or bf16 on AMX's tiles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from torch import Tensor

from octavo import ops
from octavo.ops import Bf16Activations, PackedWeight, QuantizedActivations, QuantizedRows, StoredWeight, WeightFormat
from octavo.quantization.as_stored import AsStored
from octavo.quantization.method import StackedWeight


class ActivationKind(Enum):
    """What weights are multiplied with."""

    INT8 = "int8"
    """Block formats: bytes with a scale a token and group of 32. I8: bytes with a scale a token. Others: as stored."""
    BF16 = "bf16"
    """All but F32, and widths that are no multiple of 32 (those as with INT8 or as stored): bf16, the weight made bf16 inside
    the kernel; less error than bytes. A head of a block format takes bytes. Needs `ops.has_bf16_tiles`."""


@dataclass(frozen=True, slots=True)
class NarrowActivations:
    """An input is narrowed once for all the weights stacked on it that take it in one form."""

    as_stored: AsStored
    """Loads all weights, and applies those that take no narrow form."""
    kind: ActivationKind
    is_for_head: bool = False
    """Block formats take bytes, whatever the kind: they are read at memory's speed then, and few rows are multiplied."""

    def for_head(self) -> "NarrowActivations":
        return replace(self, is_for_head=True)

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        return self.as_stored.load(weights)

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        x = _Forms(x_TK)

        def linear(part: PackedWeight, bias: Tensor | None, out: Tensor | None) -> Tensor:
            if part.format.is_block_format and (self.kind is ActivationKind.INT8 or self.is_for_head):
                return ops.linear_int8(x.groups, part, bias, out=out)
            if self.kind is ActivationKind.BF16 and takes_bf16(part):
                return ops.linear_bf16(x.bf16, part, bias, out=out)
            if part.format is WeightFormat.I8:
                return ops.linear_i8(x.rows, part, bias, out=out)
            return ops.linear(x_TK, part, bias, out=out)

        return weight.apply(x_TK, bias_N, linear)


class _Forms:
    """The narrow forms of one input, each made when it is first asked for."""

    def __init__(self, x_TK: Tensor) -> None:
        self._x_TK = x_TK

    @cached_property
    def groups(self) -> QuantizedActivations:
        return ops.quantize_activations(self._x_TK)

    @cached_property
    def rows(self) -> QuantizedRows:
        return ops.quantize_rows(self._x_TK)

    @cached_property
    def bf16(self) -> Bf16Activations:
        return ops.round_bf16(self._x_TK)


def takes_bf16(weight: PackedWeight) -> bool:
    """Not F32, which would lose by it, and not widths that tiles cannot take."""
    return weight.format is not WeightFormat.F32 and weight.in_features % ops.PAIRED_MULTIPLE == 0
