"""The plug point of weight formats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from octavo.ops import PackedWeight, StoredWeight


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Weights stacked by output features, as the kernels read them; parts may differ in format."""

    parts: tuple[PackedWeight, ...]

    @property
    def out_features(self) -> int:
        return sum(part.out_features for part in self.parts)

    def columns(self) -> Iterator[tuple[PackedWeight, slice]]:
        """Each part, and which of the stacked outputs are its own."""
        start = 0
        for part in self.parts:
            yield part, slice(start, start + part.out_features)
            start += part.out_features


class LinearMethod(Protocol):
    """How a weight becomes what the kernels read, and is applied."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        """The given weights, stacked in order."""
        ...

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        """x · Wᵀ + b, (T, N)."""
        ...
