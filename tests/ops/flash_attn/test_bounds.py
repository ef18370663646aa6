"""The bounds bite: what is off by little more than its type's precision is refused."""

import pytest
import torch
from ops.attention_bounds import (
    FEW_GRADIENTS,
    FORWARD,
    GRADIENTS,
    KV_CACHE,
    KV_CACHE_ALIBI,
    LSE,
    assert_lse_near,
    assert_near,
)
from ops.flash_attn.dense_case import DTYPES, Case, assert_results_near, formula, library
from ops.flash_attn.formula import Options

OPTIONS = [Options(), Options(causal=True), Options(alibi_slopes=torch.tensor([0.3, 0.05]), window_size=(40, 9))]
OUTPUT = {torch.float32: 1e-4, torch.float16: 3e-3, torch.bfloat16: 0.02}
GRADIENT = {torch.float32: 2e-4, torch.float16: 6e-3, torch.bfloat16: 0.03}
"""Parts of them by which outputs and gradients may not be off: outputs at twice the error of PyTorch, more where more is allowed."""


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=["all", "causal", "ALiBi"])
def test_results_that_are_off_are_refused(options, dtype, sign):
    case = Case(num_rows=113, num_keys=203, key_size=64, value_size=64, dtype=dtype, options=options)
    got, same, exact = library(case), formula(case, dtype), formula(case, torch.float64)
    assert_results_near(got, same, exact)
    for bound in (FORWARD, KV_CACHE, KV_CACHE_ALIBI):
        with pytest.raises(AssertionError):
            off = OUTPUT[dtype] * bound.factor / FORWARD.factor
            assert_near(got.out.double() * (1 + sign * off), same.out, exact.out, bound)
    with pytest.raises(AssertionError):
        assert_lse_near(got.lse + sign * 2 * LSE[dtype] * got.lse.abs().clamp(min=1), exact.lse, dtype)
    for mine, in_pytorch, want in zip(got.gradients, same.gradients, exact.gradients, strict=True):
        for bound in (GRADIENTS, FEW_GRADIENTS):
            with pytest.raises(AssertionError):
                assert_near(mine.double() * (1 + sign * GRADIENT[dtype]), in_pytorch, want, bound)
