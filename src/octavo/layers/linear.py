"""Linear layers over packed weights."""

from collections.abc import Sequence

from torch import Tensor

from octavo.quantization import LinearMethod, StackedWeight


class Linear:
    """y = x · Wᵀ + b, (T, in_features) → (T, out_features).

    W may be several weights stacked by output features (q, k and v; gate and up), each in its own format.
    """

    def __init__(self, method: LinearMethod, weight: StackedWeight, bias_N: Tensor | None = None) -> None:
        self.method = method
        self.weight = weight
        self.bias_N = bias_N

    def __call__(self, x_TK: Tensor) -> Tensor:
        return self.method.apply(x_TK, self.weight, self.bias_N)


def split_columns(y_TN: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Views of a stacked layer's outputs, `sizes` columns each."""
    return y_TN.split(list(sizes), dim=-1)
