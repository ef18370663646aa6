"""Finding the few large logits of a row without sorting it.

A row is cut into tiles of 128 logits, and only the tiles whose maximum reaches a threshold are looked into:

    row     [ … 128 … | … 128 … | … 128 … ]
    max_RN      3.1       9.7       0.4        threshold 2.0 → tiles 0 and 1

Everything here selects and compares; nothing is rounded, so the answers do not depend on batch, threads or device.

Shapes: R rows; V vocabulary; N tiles of E = 128 logits, the last filled up with −inf.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo import ops

TILE_SIZE = 128
_CHUNK_ELEMENTS = 1 << 20  # 4 MiB of fp32: a few temporaries of it are reused, not unmapped and faulted in again
_LEAST = torch.finfo(torch.float32).min

Floats = NDArray[np.float64]


def rows_per_chunk(vocab_size: int) -> int:
    """How many rows to treat at a time, so that temporaries stay bounded."""
    return max(1, _CHUNK_ELEMENTS // vocab_size)


def tiled(values_RV: Tensor, fill: float) -> Tensor:
    """[R, V] → [R, N, E]; a view where V is a multiple of the tile size and the rows are contiguous, else a copy."""
    num_missing = -values_RV.shape[1] % TILE_SIZE
    if num_missing:
        values_RV = torch.nn.functional.pad(values_RV, (0, num_missing), value=fill)
    return values_RV.reshape(len(values_RV), -1, TILE_SIZE)


def take_tiles(values_RNE: Tensor, row_M: NDArray[np.int64], tile_M: NDArray[np.int64]) -> NDArray[np.float32]:
    """The tiles (row, tile), [M, E]. On a CPU without torch, whose threads would wait for the kernels' to sleep."""
    if values_RNE.device.type == "cpu":
        return values_RNE.numpy()[row_M, tile_M]
    device = values_RNE.device
    return values_RNE[torch.from_numpy(row_M).to(device), torch.from_numpy(tile_M).to(device)].cpu().numpy()


@dataclass(slots=True, frozen=True)
class Candidates:
    """The logits of one row that reach a threshold, in order of token id."""

    token_ids: NDArray[np.int64]
    logits: NDArray[np.float32]

    def ranked(self) -> "Candidates":
        """The same from the largest logit on, the lower id first where logits are equal.

        Sorts one integer a candidate, (order-reversed bits of the logit, id), since numpy sorts integers by vector
        instructions and argsorts floats stably without:

            63            32 31            0
            ~ordered(logit) | token id        ordered: the int32 that compares as the float does
        """
        bits = (self.logits + np.float32(0.0)).view(np.int32)  # −0.0 becomes 0.0: they are equal
        ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
        keys = np.sort((~ordered).astype(np.int64) << 32 | self.token_ids)
        ordered = ~(keys >> 32).astype(np.int32)
        logits = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).view(np.float32)
        return Candidates(keys & 0xFFFFFFFF, logits)


class Tiles:
    """Rows of fp32 logits, read only, with the maximum of each tile."""

    def __init__(self, logits_RV: Tensor) -> None:
        self._logits_RV = logits_RV
        self._tile_RNE = tiled(logits_RV, -torch.inf)
        self._max_RN = ops.tile_max(logits_RV, TILE_SIZE)

    @property
    def num_tiles(self) -> int:
        return self._max_RN.shape[1]

    def row_max(self) -> Floats:
        """Each row's largest logit; NaN where the row holds a NaN."""
        return self._max_RN.amax(-1).double().cpu().numpy()

    def argmax(self) -> list[int | None]:
        """Each row's largest logit, the lowest id where several are equal; None where it is not finite."""
        max_RN = self._max_RN.cpu().numpy()
        rows = np.arange(len(max_RN))
        tile_R = max_RN.argmax(axis=1)  # the first, and a NaN before all
        token_R = tile_R * TILE_SIZE + take_tiles(self._tile_RNE, rows, tile_R).argmax(axis=1)
        is_sound = np.isfinite(max_RN[rows, tile_R]).tolist()
        return [token if sound else None for token, sound in zip(token_R.tolist(), is_sound, strict=True)]

    def kth_bound(self, k: Sequence[int]) -> Floats:
        """For each row a number ≤ its k-th largest logit, mostly close to it; for k = 0, +inf.

        The k-th largest tile maximum: at least k logits, one a tile, reach it. Where there are fewer than k tiles,
        the k-th largest logit itself. O(V) a row. k ≤ V.
        """
        num_tiles = self.num_tiles
        bound_R = np.full(len(k), np.inf)
        few = [i for i, k_i in enumerate(k) if 0 < k_i <= num_tiles]
        if few:
            most = max(k[i] for i in few)
            largest = self._max_RN.topk(most, dim=-1).values.double().cpu().numpy()
            bound_R[few] = [largest[i, k[i] - 1] for i in few]
        for i, k_i in enumerate(k):
            if k_i > num_tiles:
                bound_R[i] = float(self._logits_RV[i].topk(k_i).values[-1])
        return bound_R

    def at_least(self, threshold_R: Floats) -> list[Candidates]:
        """For each row the finite logits ≥ threshold (rounded to fp32); none where the threshold is NaN."""
        device = self._logits_RV.device
        limit_R = torch.from_numpy(threshold_R.astype(np.float32)).to(device).clamp_min(_LEAST)
        row_M, tile_M = (self._max_RN >= limit_R[:, None]).nonzero(as_tuple=True)
        # A NaN maximum hides its tile, but a row with a NaN is refused before it is asked for candidates.
        tile_ME = self._tile_RNE[row_M, tile_M]
        in_M, in_E = (tile_ME >= limit_R[row_M, None]).nonzero(as_tuple=True)
        ids = (tile_M[in_M] * TILE_SIZE + in_E).cpu().numpy()
        logits = tile_ME[in_M, in_E].cpu().numpy()
        ends = np.bincount(row_M[in_M].cpu().numpy(), minlength=len(threshold_R)).cumsum()
        starts = np.concatenate([[0], ends[:-1]])
        return [Candidates(ids[a:b], logits[a:b]) for a, b in zip(starts, ends, strict=True)]
