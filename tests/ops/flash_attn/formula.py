"""Attention written out, one request at a time, in whatever precision its inputs have: what the library is compared with.

Legend: S rows, M keys, H query heads, K KV heads, D key size, E value size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """The arguments of flash_attn_func that change its result."""

    causal: bool = False
    window_size: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    softmax_scale: float | None = None
    alibi_slopes: Tensor | None = None

    @property
    def arguments(self) -> dict[str, object]:
        return {
            "causal": self.causal,
            "window_size": self.window_size,
            "softcap": self.softcap,
            "softmax_scale": self.softmax_scale,
            "alibi_slopes": self.alibi_slopes,
        }

    def of_request(self, request: int) -> "Options":
        slopes = self.alibi_slopes
        return self if slopes is None or slopes.dim() == 1 else replace(self, alibi_slopes=slopes[request])


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    out: Tensor
    """(S, H, E)"""
    lse: Tensor
    """(H, S)"""
    probabilities: Tensor
    """(H, S, M), before dropout"""


def attention(
    q: Tensor, k: Tensor, v: Tensor, options: Options, keep: Tensor | None = None, dropout_p: float = 0.0
) -> Result:
    """q (S, H, D), k (M, K, D), v (M, K, E); keep (H, S, M) where there is dropout."""
    num_rows, num_heads, key_size = q.shape
    num_keys, num_kv_heads, _ = k.shape
    scale = key_size**-0.5 if options.softmax_scale is None else options.softmax_scale
    k, v = (x.repeat_interleave(num_heads // num_kv_heads, 1) for x in (k, v))
    s = torch.einsum("shd,mhd->hsm", q, k * scale)
    if options.softcap:
        s = torch.tanh(s / options.softcap) * options.softcap
    position = torch.arange(num_rows)[:, None] + (num_keys - num_rows)
    key = torch.arange(num_keys)
    if options.alibi_slopes is not None:
        s = s - (options.alibi_slopes[:, None, None].double() * (position - key).abs()).to(s.dtype)
    left, right = options.window_size
    is_hidden = torch.zeros(num_rows, num_keys, dtype=torch.bool)
    if left >= 0:
        is_hidden |= key < position - left
    if options.causal:
        right = 0
    if right >= 0:
        is_hidden |= key > position + right
    s = s.masked_fill(is_hidden, -torch.inf)
    sees_nothing = is_hidden.all(-1, keepdim=True)
    p = torch.softmax(s.masked_fill(sees_nothing, 0.0), -1).masked_fill(sees_nothing, 0.0).to(v.dtype)
    lse = s.masked_fill(sees_nothing, 0.0).logsumexp(-1).masked_fill(sees_nothing[:, 0], -torch.inf)
    kept = p if keep is None else p * keep / (1 - dropout_p)
    return Result(out=torch.einsum("hsm,mhe->she", kept, v), lse=lse, probabilities=p)


def batch_attention(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Result:
    """Of (B, S, H, D)."""
    each = [attention(*one, options.of_request(i)) for i, one in enumerate(zip(q, k, v, strict=True))]
    return Result(
        out=torch.stack([one.out for one in each]),
        lse=torch.stack([one.lse for one in each]),
        probabilities=torch.stack([one.probabilities for one in each]),
    )


def gradients(out: Tensor, do: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, inputs, do.to(out.dtype))


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
