"""The plug point of weight formats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from octavo.ops import PackedWeight, StoredWeight

PartLinear = Callable[[PackedWeight, Tensor | None, Tensor | None], Tensor]
"""(weight, bias, out or None) → outputs."""


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Weights stacked by output features, as the kernels read them; parts may differ in format."""

    parts: tuple[PackedWeight, ...]

    @property
    def out_features(self) -> int:
        return sum(part.out_features for part in self.parts)

    def apply(self, x_TK: Tensor, bias_N: Tensor | None, linear: PartLinear) -> Tensor:
        """The parts' outputs side by side, (T, out_features); `linear` multiplies x with one of them."""
        if len(self.parts) == 1:
            return linear(self.parts[0], bias_N, None)
        y_TN = x_TK.new_empty(x_TK.shape[0], self.out_features)
        start = 0
        for part in self.parts:
            columns = slice(start, start + part.out_features)
            linear(part, None if bias_N is None else bias_N[columns], y_TN[:, columns])
            start = columns.stop
        return y_TN


class LinearMethod(Protocol):
    """How a weight becomes what the kernels read, and is applied."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        """The given weights, stacked in order."""
        ...

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        """x · Wᵀ + b, (T, N)."""
        ...

    def for_head(self) -> "LinearMethod":
        """How the same weights are applied where only rows that tokens are sampled from meet them: few of a prompt's, in decode
        often a single one."""
        ...
