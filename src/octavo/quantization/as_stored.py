"""Weights stay in the format of their file; activations keep their type."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from octavo import ops
from octavo.ops import StoredWeight
from octavo.quantization.method import StackedWeight


@dataclass(frozen=True, slots=True)
class AsStored:
    """Packed weights are unpacked exactly, inside the kernel, as they are multiplied."""

    device: torch.device
    dtype: torch.dtype
    """Of the activations that weights are multiplied with."""

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        """Neighbours of one format become one matrix."""
        runs = [list(run) for _, run in groupby(weights, key=lambda weight: weight.format)]
        return StackedWeight(tuple(ops.pack_stacked(run, device=self.device, dtype=self.dtype) for run in runs))

    def for_head(self) -> "AsStored":
        return self

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        return weight.apply(x_TK, bias_N, lambda part, bias, out: ops.linear(x_TK, part, bias, out=out))
