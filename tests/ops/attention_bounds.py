"""How near attention must be to its formula: what the field's own suites allow, and what is documented of the log-sum-exp."""

from typing import NamedTuple

import torch
from torch import Tensor


class Bound(NamedTuple):
    """How many times the error of PyTorch at the same precision, or how many roundings of the largest value, if that is more."""

    factor: int
    roundings: int = 1
    """Of few values, PyTorch's may happen to be exact."""


FORWARD, KV_CACHE, KV_CACHE_ALIBI = Bound(2), Bound(3), Bound(5)
GRADIENTS = Bound(3, roundings=2)
"""δ is made of an output that is rounded."""
FEW_GRADIENTS = Bound(3, roundings=6)
"""Of any problem: rows that see one key, and few rows with dropout, leave what rounding o makes of dP − δ, where autograd
may have exactly 0. In 400 random problems a path, most was left by fp16 and requests of many rows and one key: 5.9 roundings by
AVX-512, 6.3 on tiles. So the test's examples, which are the same in each run, keep this bound, and not every problem does."""

LSE = {torch.float32: 1e-5, torch.float16: 4e-5, torch.bfloat16: 6e-3}
"""By what q and k are multiplied in, the largest error of the log-sum-exp: parts of its size, of 1 at least."""


def assert_near(got: Tensor, same_precision: Tensor, exact: Tensor, bound: Bound, rounded: float = 0.0) -> None:
    """Within the bound, and 1e-5, and what a number of the size of `rounded` is rounded by in fp32, as a part of the largest value."""
    assert got.shape == exact.shape
    if not exact.numel():
        return
    rounding = torch.finfo(same_precision.dtype).eps / 2 * exact.abs().max()
    error = (same_precision.double() - exact).abs().max()
    allowed = torch.maximum(bound.factor * error, bound.roundings * rounding)
    allowed += rounded * torch.finfo(torch.float32).eps / 2 * exact.abs().max()
    off = (got.double() - exact).abs().max()
    assert off <= allowed + 1e-5, f"error {off:.3g}, allowed {allowed + 1e-5:.3g}"


def assert_lse_near(got: Tensor, exact: Tensor, precision: torch.dtype) -> None:
    """Within LSE's bound; −∞ where the formula has it, and nowhere else."""
    assert got.dtype == torch.float32
    assert got.shape == exact.shape
    assert torch.equal(got == -torch.inf, exact == -torch.inf)
    seen = exact > -torch.inf
    assert ((got[seen].double() - exact[seen]).abs() <= LSE[precision] * exact[seen].abs().clamp(min=1)).all()
