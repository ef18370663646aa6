"""Weights as the kernels read them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.core.strenum import StrEnum
from octavo.core.weights import StoredWeight, WeightFormat

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PackedWeight", "StoredWeight", "WeightFormat", "WeightLayout"]


class WeightLayout(StrEnum):
    """How `PackedWeight.data` is laid out, and so which kernels read it."""

    ROWS = "rows"  # as stored: (N, K) of a float dtype, or (N, row_bytes) uint8 for block formats
    DENSE = "dense"  # expanded to (N, K) of the activation dtype
    PANELS = "panels"  # bytes of csrc/panel.h: 32 output features side by side
    TILES = "tiles"  # the same of bf16, in the order of AMX's tiles


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """A weight as the kernels of its device want it; made by `octavo.ops.pack_weight`, owner of `data`."""

    data: "Tensor"
    format: WeightFormat
    layout: WeightLayout
    out_features: int
    in_features: int

    @property
    def num_bytes(self) -> int:
        """Bytes of memory the packed form takes."""
        return self.data.numel() * self.data.element_size()
