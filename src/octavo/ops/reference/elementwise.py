"""Sums, caps and rows taken. Legend: T tokens, R rows taken, C channels."""

import torch
from torch import Tensor


def add(x_TC: Tensor, y_TC: Tensor) -> Tensor:
    """x + y."""
    return x_TC + y_TC


def softcap(x_TC: Tensor, cap: float) -> Tensor:
    """cap·tanh(x / cap)."""
    return torch.tanh(x_TC / cap) * cap


def take_rows(x_TC: Tensor, rows_R: Tensor) -> Tensor:
    """x[rows]."""
    return x_TC.index_select(0, rows_R.long())
