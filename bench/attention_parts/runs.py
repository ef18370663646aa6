"""Attention as it is called, by Octavo, by torch and by the standard algorithm: forward, or forward and backward.

Legend: B batch, S tokens, H heads, D head size.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from octavo.ops import flash_attn_func

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FORWARD_AND_BACKWARD = 3.5
"""Products of both passes by those of the first: S and o; S again, dP, dV, dK and dQ."""
Run = Callable[[], object]


class Shape(NamedTuple):
    tokens: int
    heads: int
    head_size: int
    is_causal: bool
    batch: int = 1


class Inputs(NamedTuple):
    """(B, S, H, D) each, contiguous; for torch and the standard algorithm (B, H, S, D)."""

    q: Tensor
    k: Tensor
    v: Tensor
    do: Tensor


def random_inputs(shape: Shape, dtype: str, *, heads_first: bool = False) -> Inputs:
    tokens_and_heads = (shape.heads, shape.tokens) if heads_first else (shape.tokens, shape.heads)
    size = (shape.batch, *tokens_and_heads, shape.head_size)
    return Inputs(*(torch.randn(size, dtype=DTYPES[dtype]) for _ in range(4)))


def work_gflop(shape: Shape, *, has_backward: bool) -> float:
    """Of the products over the keys that each row sees: 4·D·H a pair, and 3.5 times that with the backward pass."""
    pairs = shape.tokens * (shape.tokens + 1) / 2 if shape.is_causal else shape.tokens**2
    forward = 4e-9 * shape.batch * shape.head_size * shape.heads * pairs
    return forward * FORWARD_AND_BACKWARD if has_backward else forward


def octavo_run(x: Inputs, *, is_causal: bool, has_backward: bool) -> Run:
    return differentiated(partial(flash_attn_func, causal=is_causal), x, has_backward=has_backward)


def torch_run(x: Inputs, *, is_causal: bool, has_backward: bool) -> Run:
    """Of (B, H, S, D)."""
    return differentiated(partial(scaled_dot_product_attention, is_causal=is_causal), x, has_backward=has_backward)


def standard_run(x: Inputs, *, is_causal: bool, has_backward: bool) -> Run:
    """Of (B, H, S, D): scores and probabilities in memory."""
    tokens, scale = x.q.shape[2], x.q.shape[3] ** -0.5
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu_(1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s = (q * scale) @ k.transpose(-1, -2)
        if is_causal:
            s.masked_fill_(hidden, -torch.inf)
        return torch.softmax(s, dim=-1) @ v

    return differentiated(attend, x, has_backward=has_backward)


def differentiated(attend: Callable[..., Tensor], x: Inputs, *, has_backward: bool) -> Run:
    if not has_backward:
        return lambda: attend(x.q, x.k, x.v)
    leaves = [t.detach().requires_grad_() for t in (x.q, x.k, x.v)]
    return lambda: torch.autograd.grad(attend(*leaves), leaves, x.do)
