"""Sums, caps and rows taken: checked signatures. Legend: T tokens, R rows taken, C channels."""

from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, INDEX_DTYPES, check_positive, check_row_indices, check_tensor


def add(x_TC: Tensor, y_TC: Tensor) -> Tensor:
    """x + y; (T, C), new, of their dtype."""
    check_tensor("x", x_TC, (None, None), FLOAT_DTYPES, x_TC.device)
    check_tensor("y", y_TC, tuple(x_TC.shape), (x_TC.dtype,), x_TC.device)
    return table.ADD(x_TC, y_TC)


def softcap(x_TC: Tensor, cap: float) -> Tensor:
    """cap·tanh(x / cap), which stays within ±cap; (T, C), new. Gemma 2 (arXiv 2408.00118), section 2."""
    check_tensor("x", x_TC, (None, None), FLOAT_DTYPES, x_TC.device)
    check_positive("cap", cap)
    return table.SOFTCAP(x_TC, cap)


def take_rows(x_TC: Tensor, rows_R: Tensor) -> Tensor:
    """y[r] = x[rows[r]]; (R, C), new; rows (R,) int32 or int64, each below T."""
    check_tensor("x", x_TC, (None, None), FLOAT_DTYPES, x_TC.device)
    check_tensor("rows", rows_R, (None,), INDEX_DTYPES, x_TC.device)
    check_row_indices("rows", rows_R, x_TC)
    return table.TAKE_ROWS(x_TC, rows_R)
