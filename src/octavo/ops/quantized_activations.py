"""Activations as bytes, for products with packed weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GROUP_SIZE = 32
"""Elements along K that share a scale."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedActivations:
    """x (T, K) as bytes, one scale for each token and group of 32: x ≈ scale · q. Legend: G = K / 32 groups.

    Scales and sums lie by group, so that the tokens of a tile are neighbours. Whatever makes activations (a norm,
    a gated activation) may make these in the same pass: a token's entries depend on nothing but its own row.
    """

    q_TK: "Tensor"
    """int8, −127 … 127, contiguous."""
    scales_GT: "Tensor"
    """fp32, contiguous."""
    sums_HT: "Tensor"
    """int32, contiguous: sums of q over each half (16 elements) of each group, H = 2·G."""

    @property
    def num_tokens(self) -> int:
        return self.q_TK.shape[0]

    @property
    def in_features(self) -> int:
        return self.q_TK.shape[1]
