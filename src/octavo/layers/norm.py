"""Normalisation, alone or fused with the residual addition before it."""

from torch import Tensor

from octavo import ops


class RMSNorm:
    """y = x / √(mean(x²) + ε) · w over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, weight_C: Tensor, eps: float) -> None:
        self.weight_C = weight_C
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight_C, self.eps)

    def add(self, x_TC: Tensor, residual_TC: Tensor) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual)."""
        normed_TC, sum_TC = ops.add_rms_norm(x_TC, residual_TC, self.weight_C, self.eps)
        return normed_TC, sum_TC
