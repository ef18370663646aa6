"""A machine with two memories that counts what passes between them: large, slow HBM and small, fast SRAM.

Algorithms written for it load blocks, compute on them, and store results; what they compute is real. Tensors live in HBM,
and what `load` gives lives in SRAM, in fp32 or the tensor's own wider type.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


class TwoLevelMemory:
    """Counts bytes moved, bytes allocated in HBM, and floating-point operations of matrix products."""

    def __init__(self) -> None:
        self.loaded_bytes = 0
        self.stored_bytes = 0
        self.allocated_bytes = 0
        """Of results and of what is in between; never given back."""
        self.matmul_flops = 0

    @property
    def moved_bytes(self) -> int:
        return self.loaded_bytes + self.stored_bytes

    def allocate(self, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """New in HBM, its values not yet known."""
        x = torch.empty(shape, dtype=dtype, device=device)
        self.allocated_bytes += _num_bytes(x)
        return x

    def load(self, x: Tensor) -> Tensor:
        """A block from HBM to SRAM."""
        self.loaded_bytes += _num_bytes(x)
        return x.to(torch.promote_types(x.dtype, torch.float32), copy=True)

    def store(self, place: Tensor, x: Tensor | float) -> None:
        """A block from SRAM to its place in HBM, rounded to the place's type."""
        self.stored_bytes += _num_bytes(place)
        if isinstance(x, Tensor):
            place.copy_(x)
        else:
            place.fill_(x)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """a (m, k) · b (k, n), in SRAM: 2·m·k·n operations."""
        self.matmul_flops += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b


def blocks(size: int, block_size: int) -> Iterator[slice]:
    """0 … size − 1 cut into blocks; the last may be shorter."""
    for start in range(0, size, block_size):
        yield slice(start, min(size, start + block_size))


@dataclass(frozen=True, slots=True)
class AttentionMask:
    """Which keys a query sees: all, or if causal, aligned at the bottom right, j ≤ i + M − N for N queries and M keys."""

    num_queries: int
    num_keys: int
    is_causal: bool

    def sees(self, rows: slice, columns: slice) -> bool:
        """Whether a query of the block sees one of its keys; else the block is left out."""
        return not self.is_causal or columns.start <= rows.stop - 1 + self.num_keys - self.num_queries

    def hide(self, s: Tensor, rows: slice, columns: slice) -> None:
        """Scores of the block to −∞ where the key is not seen. In place."""
        if self.is_causal:
            i = torch.arange(rows.start, rows.stop, device=s.device)[:, None]
            j = torch.arange(columns.start, columns.stop, device=s.device)
            s.masked_fill_(j > i + self.num_keys - self.num_queries, -torch.inf)


def exp_from(s: Tensor, m: Tensor) -> Tensor:
    """e^(s − m), 0 where m is −∞: nothing has been seen there."""
    return torch.where(m == -torch.inf, 0.0, torch.exp(s - m))


def _num_bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()
