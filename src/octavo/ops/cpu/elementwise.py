"""Native sums, caps and rows taken, fp32. Legend: T tokens, R rows taken, C channels."""

import torch
from torch import Tensor

from octavo.ops.cpu.launch import ADD, SOFTCAP, TAKE_ROWS, launch
from octavo.ops.cpu.tensors import as_index, is_fp32_on_cpu, with_dense_rows


def can_add(x_TC: Tensor, y_TC: Tensor) -> bool:
    return is_fp32_on_cpu(x_TC)


def add(x_TC: Tensor, y_TC: Tensor) -> Tensor:
    """x + y, new."""
    total_TC = x_TC.new_empty(x_TC.shape)
    rows, channels = x_TC.shape
    launch(ADD, x=x_TC.contiguous(), y=y_TC.contiguous(), total=total_TC, rows=rows, channels=channels)
    return total_TC


def can_softcap(x_TC: Tensor, cap: float) -> bool:
    return is_fp32_on_cpu(x_TC)


def softcap(x_TC: Tensor, cap: float) -> Tensor:
    """cap·tanh(x / cap), new."""
    y_TC = x_TC.new_empty(x_TC.shape)
    launch(SOFTCAP, x=x_TC.contiguous(), y=y_TC, rows=x_TC.shape[0], channels=x_TC.shape[1], cap=cap)
    return y_TC


def can_take_rows(x_TC: Tensor, rows_R: Tensor) -> bool:
    return is_fp32_on_cpu(x_TC)


def take_rows(x_TC: Tensor, rows_R: Tensor) -> Tensor:
    """x[rows], new."""
    x, rows = with_dense_rows(x_TC), as_index(rows_R)
    y_RC = rows.new_empty(rows.shape[0], x.shape[1], dtype=torch.float32)
    launch(TAKE_ROWS, x=x, x_stride=x.stride(0), ids=rows, y=y_RC, rows=y_RC.shape[0], channels=y_RC.shape[1])
    return y_RC
