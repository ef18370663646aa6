"""Native tile maximums and softmax, fp32. Legend: R rows, V vocabulary, N tiles."""

from torch import Tensor

from octavo.ops.cpu.launch import SOFTMAX, TILE_MAX, launch
from octavo.ops.cpu.tensors import is_fp32_on_cpu, optional_vector, with_dense_rows


def can_tile_max(x_RV: Tensor, tile: int) -> bool:
    return is_fp32_on_cpu(x_RV)


def tile_max(x_RV: Tensor, tile: int) -> Tensor:
    """(R, N), new."""
    x = with_dense_rows(x_RV)
    rows, channels = x.shape
    maximums_RN = x.new_empty(rows, -(-channels // tile))
    launch(TILE_MAX, x=x, x_stride=x.stride(0), maximums=maximums_RN, rows=rows, channels=channels, tile=tile)
    return maximums_RN


def can_softmax(x_RV: Tensor, temperature_R: Tensor | None) -> bool:
    return is_fp32_on_cpu(x_RV)


def softmax(x_RV: Tensor, temperature_R: Tensor | None) -> Tensor:
    """softmax(x / temperature), new."""
    return _softmax(x_RV, temperature_R, is_log=False)


def can_log_softmax(x_RV: Tensor) -> bool:
    return is_fp32_on_cpu(x_RV)


def log_softmax(x_RV: Tensor) -> Tensor:
    """ln softmax(x), new."""
    return _softmax(x_RV, None, is_log=True)


def _softmax(x_RV: Tensor, temperature_R: Tensor | None, *, is_log: bool) -> Tensor:
    x = with_dense_rows(x_RV)
    rows, channels = x.shape
    y_RV = x.new_empty(rows, channels)
    launch(
        SOFTMAX,
        x=x,
        x_stride=x.stride(0),
        temperatures=optional_vector(temperature_R),
        y=y_RV,
        rows=rows,
        channels=channels,
        is_log=is_log,
    )
    return y_RV
