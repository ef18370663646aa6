"""Activations as bytes or bf16, for products with packed weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROW_PADDING = 64
"""Rows of bytes with one scale are filled up with zeros to a multiple of this."""

PAIRED_ROWS = 16
"""Rows of bf16 that lie together."""

PAIRED_MULTIPLE = 32
"""Rows of bf16 are paired, for AMX's tiles, where their elements are a multiple of this."""

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


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedRows:
    """x (T, K) as bytes, one scale a token: x ≈ scale · q. For I8 weights, whose scales are as far apart."""

    q_TP: "Tensor"
    """int8, −127 … 127, contiguous; P is K up to a multiple of `ROW_PADDING`, filled up with zeros."""
    scales_T: "Tensor"
    """fp32, contiguous."""
    sums_T: "Tensor"
    """int32, contiguous: sums of q."""

    @property
    def num_tokens(self) -> int:
        return self.q_TP.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Bf16Activations:
    """x (T, K) in bf16, rounded to nearest even, in the order in which the kernel of its device reads it."""

    data_TK: "Tensor"
    """bf16, contiguous."""
    is_paired: bool
    """Not one row after the other, but blocks of `PAIRED_ROWS` rows (the last of what is left), each [K / 2][rows][2]."""

    @property
    def num_tokens(self) -> int:
        return self.data_TK.shape[0]

    @property
    def in_features(self) -> int:
        return self.data_TK.shape[1]


def padded_size(in_features: int) -> int:
    """P of `QuantizedRows`."""
    return -(-in_features // ROW_PADDING) * ROW_PADDING
