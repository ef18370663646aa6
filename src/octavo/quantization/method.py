"""The plug point of weight formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from octavo.ops import PackedWeight, StoredWeight


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Weights stacked by output features, as the kernels read them; parts may differ in format."""

    parts: tuple[PackedWeight, ...]


class LinearMethod(Protocol):
    """How a weight becomes what the kernels read, and is applied."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        """The given weights, stacked in order."""
        ...

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        """x · Wᵀ + b, (T, N)."""
        ...
