"""What attention takes on this machine, by each algorithm: seconds for all heads of one sequence."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from octavo.bench.attention_costs import AttentionShape
from octavo.bench.devices import best_s
from octavo.ops import flash_attn_func, reference

Blocks = tuple[int, int]


def measure_attention(shape: AttentionShape, dtype: torch.dtype, blocks_1: Blocks) -> dict[str, float]:
    """Name → seconds of random tensors: forward, and of the last two forward and backward.

    Standard attention is torch's products and softmax, a head at a time, since the scores of all would not fit. FlashAttention-1
    is the tile loops of `octavo.ops.reference`, in torch. FlashAttention-2 is Octavo's own `flash_attn_func`.
    """
    generator = torch.Generator().manual_seed(0)
    size = (1, shape.seqlen, shape.heads, shape.head_dim)
    q, k, v, do = (torch.randn(size, generator=generator).to(dtype) for _ in range(4))
    scale = shape.head_dim**-0.5
    runs: dict[str, Callable[[], object]] = {
        "standard": lambda: standard_attention(q[0], k[0], v[0], scale, shape.is_causal),
        "FlashAttention-1": lambda: _flash_attention_1(q[0], k[0], v[0], scale, shape.is_causal, blocks_1),
        "FlashAttention-2": lambda: octavo_attention(q, k, v, shape.is_causal),
        "torch SDPA": lambda: _torch(q, k, v, shape.is_causal),
    }
    with torch.inference_mode():
        times = {name: best_s(run) for name, run in runs.items()}
    inputs = [x.requires_grad_() for x in (q, k, v)]
    for name, attend in {"FlashAttention-2": octavo_attention, "torch SDPA": _torch}.items():
        times[f"{name} and backward"] = best_s(partial(_differentiate, attend, inputs, do, shape.is_causal))
    return times


def standard_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, is_causal: bool) -> None:
    """softmax(scale·q·kᵀ)·v by torch, (tokens, heads, size), a head at a time; its result is not kept."""
    hidden = torch.ones(len(q), len(k), dtype=torch.bool).triu(1) if is_causal else None
    for head in range(q.shape[1]):
        s = (q[:, head] * scale) @ k[:, head].T
        if hidden is not None:
            s.masked_fill_(hidden, -torch.inf)
        torch.softmax(s, dim=-1) @ v[:, head]


def _flash_attention_1(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, is_causal: bool, blocks: Blocks
) -> None:
    for head in range(q.shape[1]):
        reference.flash_attention_1(
            reference.TwoLevelMemory(),
            q[:, head],
            k[:, head],
            v[:, head],
            scale=scale,
            block_rows=blocks[0],
            block_columns=blocks[1],
            is_causal=is_causal,
        )


def octavo_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
    """The same by `flash_attn_func`, (batch, tokens, heads, size)."""
    out = flash_attn_func(q, k, v, causal=is_causal)
    assert isinstance(out, torch.Tensor)  # alone, where no log-sum-exp is asked for
    return out


def _torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> torch.Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal).transpose(1, 2)


def _differentiate(
    attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor], do: torch.Tensor, is_causal: bool
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(attend(*inputs, is_causal), inputs, do)
