"""Gated activations: checked signatures. Legend: T tokens, F features that come out."""

from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, check_tensor
from octavo.ops.errors import OpArgumentError


def silu_mul(x_T2F: Tensor) -> Tensor:
    """y = silu(x[:, :F])·x[:, F:] with silu(a) = a / (1 + e^−a); y (T, F) is new. Shazeer 2020, arXiv 2002.05202."""
    _check_halves(x_T2F)
    return table.SILU_MUL(x_T2F)


def gelu_tanh_mul(x_T2F: Tensor) -> Tensor:
    """y = gelu(x[:, :F])·x[:, F:] with gelu's tanh form; y (T, F) is new.

    gelu(a) = a/2·(1 + tanh(√(2/π)(a + 0.044715a³))). Hendrycks, Gimpel 2016, arXiv 1606.08415.
    """
    _check_halves(x_T2F)
    return table.GELU_TANH_MUL(x_T2F)


def _check_halves(x_T2F: Tensor) -> None:
    check_tensor("x", x_T2F, (None, None), FLOAT_DTYPES, x_T2F.device)
    if x_T2F.shape[1] % 2:
        raise OpArgumentError(
            f"x has the wrong width: got {x_T2F.shape[1]}; allowed even numbers: gate and up, side by side", param="x"
        )
