"""One call of flash_attn_func and its gradients, beside the formula's."""

from dataclasses import dataclass

import torch
from ops.attention_bounds import FORWARD, GRADIENTS, assert_lse_near, assert_near
from ops.flash_attn.formula import Options, batch_attention, gradients, randn
from torch import Tensor

from octavo.ops import flash_attn_func

PLAIN = Options()
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    batch: int = 2
    num_rows: int
    num_keys: int
    num_heads: int = 2
    num_kv_heads: int = 1
    key_size: int = 16
    value_size: int = 16
    dtype: torch.dtype = torch.float32
    options: Options = PLAIN

    def inputs(self):
        q = randn(self.batch, self.num_rows, self.num_heads, self.key_size, seed=1, dtype=self.dtype)
        k = randn(self.batch, self.num_keys, self.num_kv_heads, self.key_size, seed=2, dtype=self.dtype)
        v = randn(self.batch, self.num_keys, self.num_kv_heads, self.value_size, seed=3, dtype=self.dtype)
        return q, k, v

    def output_gradient(self):
        return randn(self.batch, self.num_rows, self.num_heads, self.value_size, seed=4, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    out: Tensor
    lse: Tensor
    gradients: tuple[Tensor, ...]
    """Of q, k and v."""


def library(case: Case) -> Results:
    inputs = [x.requires_grad_() for x in case.inputs()]
    got = flash_attn_func(*inputs, **case.options.arguments, return_attn_probs=True)
    assert got.S_dmask.shape == (0,)
    return Results(out=got.out, lse=got.softmax_lse, gradients=gradients(got.out, case.output_gradient(), inputs))


def formula(case: Case, dtype: torch.dtype) -> Results:
    inputs = [x.to(dtype).requires_grad_() for x in case.inputs()]
    want = batch_attention(*inputs, case.options)
    return Results(out=want.out, lse=want.lse, gradients=gradients(want.out, case.output_gradient(), inputs))


def assert_results_near(got: Results, same: Results, exact: Results) -> None:
    assert_near(got.out, same.out, exact.out, FORWARD)
    assert_lse_near(got.lse, exact.lse, same.out.dtype)
    for each in zip(got.gradients, same.gradients, exact.gradients, strict=True):
        assert_near(*each, GRADIENTS)


def check(case: Case) -> None:
    got = library(case)
    assert all(x.dtype == case.dtype for x in (got.out, *got.gradients))
    assert_results_near(got, formula(case, case.dtype), formula(case, torch.float64))
