"""Tile maximums and softmax. Legend: R rows, V vocabulary, N tiles."""

import torch
from torch import Tensor
from torch.nn import functional


def tile_max(x_RV: Tensor, tile: int) -> Tensor:
    """The largest of every `tile` neighbours, NaN where one of them is."""
    missing = -x_RV.shape[1] % tile
    padded = functional.pad(x_RV, (0, missing), value=-torch.inf) if missing else x_RV
    return padded.reshape(x_RV.shape[0], -1, tile).amax(-1)


def softmax(x_RV: Tensor, temperature_R: Tensor | None) -> Tensor:
    """softmax(x / temperature) over each row."""
    return torch.softmax(x_RV if temperature_R is None else x_RV / temperature_R[:, None], dim=-1)


def log_softmax(x_RV: Tensor) -> Tensor:
    """ln softmax(x) over each row."""
    return torch.log_softmax(x_RV, dim=-1)
