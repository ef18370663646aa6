"""How near attention must be to its formula: what the field's own suites allow, and what is documented of the log-sum-exp."""

import torch
from torch import Tensor

FORWARD, GRADIENTS, KV_CACHE, KV_CACHE_ALIBI = 2, 3, 3, 5
"""How many times the error of PyTorch at the same precision."""

LSE = {torch.float32: 1e-5, torch.float16: 4e-5, torch.bfloat16: 3e-3}
"""By what q and k are multiplied in, the largest error of the log-sum-exp: parts of its size, of 1 at least."""


def assert_near(got: Tensor, same_precision: Tensor, exact: Tensor, factor: int) -> None:
    """At most `factor` times the error of the formula in PyTorch at the same precision, and 1e-5; or one rounding of the
    largest value, if that is more: of few values, PyTorch's may happen to be exact."""
    assert got.shape == exact.shape
    if not exact.numel():
        return
    rounding = torch.finfo(same_precision.dtype).eps / 2 * exact.abs().max()
    allowed = factor * (same_precision.double() - exact).abs().max()
    assert (got.double() - exact).abs().max() <= torch.maximum(allowed, rounding) + 1e-5


def assert_lse_near(got: Tensor, exact: Tensor, precision: torch.dtype) -> None:
    """Within LSE's bound; −∞ where the formula has it, and nowhere else."""
    assert got.dtype == torch.float32
    assert got.shape == exact.shape
    assert torch.equal(got == -torch.inf, exact == -torch.inf)
    seen = exact > -torch.inf
    assert ((got[seen].double() - exact[seen]).abs() <= LSE[precision] * exact[seen].abs().clamp(min=1)).all()
