"""Weights stay in the format of their file; activations keep their type."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    def load(self, weights: Sequence[StoredWeight]) -> StackedWeight:
        """Neighbours of one format become one matrix."""
        runs = [list(run) for _, run in groupby(weights, key=lambda weight: weight.format)]
        packed = [ops.pack_weight(_stack(run), device=self.device, dtype=self.dtype) for run in runs]
        return StackedWeight(tuple(packed))

    def apply(self, x_TK: Tensor, weight: StackedWeight, bias_N: Tensor | None) -> Tensor:
        return weight.apply(x_TK, bias_N, lambda part, bias, out: ops.linear(x_TK, part, bias, out=out))


def _stack(weights: Sequence[StoredWeight]) -> StoredWeight:
    if len(weights) == 1:
        return weights[0]
    return replace(
        weights[0],
        data=torch.cat([weight.data for weight in weights]),
        out_features=sum(weight.out_features for weight in weights),
    )
