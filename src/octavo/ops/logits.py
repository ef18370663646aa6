"""What choosing tokens asks of logits: checked signatures. Legend: R rows, V vocabulary, N tiles."""

import torch
from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, check_tensor
from octavo.ops.errors import OpArgumentError


def tile_max(x_RV: Tensor, tile: int) -> Tensor:
    """m[r, n] = max x[r, n·tile … (n + 1)·tile − 1]; (R, ceil(V / tile)), new. NaN for a tile that holds a NaN.

    Exact, so the same on every backend.
    """
    check_tensor("x", x_RV, (None, None), FLOAT_DTYPES, x_RV.device)
    if tile < 1:
        raise OpArgumentError(f"tile: got {tile}; allowed 1 or more", param="tile")
    return table.TILE_MAX(x_RV, min(tile, max(1, x_RV.shape[1])))


def softmax(x_RV: Tensor, temperature_R: Tensor | None = None) -> Tensor:
    """y = e^(x/t) / Σ e^(x/t) over each row, (R, V), new; t (R,) above 0, or 1.

    A row that holds NaN or +∞, or nothing but −∞, gives NaN. A row's bits depend on nothing but the row.
    """
    check_tensor("x", x_RV, (None, None), FLOAT_DTYPES, x_RV.device)
    if temperature_R is not None:
        check_tensor("temperature", temperature_R, (x_RV.shape[0],), (torch.float32,), x_RV.device)
    return table.SOFTMAX(x_RV, temperature_R)


def log_softmax(x_RV: Tensor) -> Tensor:
    """y = x − ln Σ e^x over each row, (R, V), new. NaN as `softmax`; a row's bits depend on nothing but the row."""
    check_tensor("x", x_RV, (None, None), FLOAT_DTYPES, x_RV.device)
    return table.LOG_SOFTMAX(x_RV)
