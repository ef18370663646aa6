"""What attention takes on this machine, by each algorithm: seconds for all heads of one sequence."""

from collections.abc import Callable

import torch
from torch.nn import functional

from octavo import ops
from octavo.bench.attention_costs import AttentionShape
from octavo.bench.devices import best_s
from octavo.ops import AttentionOptions, AttentionPlan, reference

Blocks = tuple[int, int]


def measure_attention(shape: AttentionShape, dtype: torch.dtype, blocks_1: Blocks) -> dict[str, float]:
    """Name → seconds, forward, of random tensors.

    Standard attention is torch's products and softmax, a head at a time, since the scores of all would not fit. FlashAttention-1
    is the tile loops of `octavo.ops.reference`, in torch. FlashAttention-2 is Octavo's own kernel, on a cache of one block.
    """
    generator = torch.Generator().manual_seed(0)
    size = (shape.seqlen, shape.heads, shape.head_dim)
    q, k, v = (torch.randn(size, generator=generator).to(dtype) for _ in range(3))
    scale = shape.head_dim**-0.5
    runs: dict[str, Callable[[], object]] = {
        "standard": lambda: _standard(q, k, v, scale, shape.is_causal),
        "FlashAttention-1": lambda: _flash_attention_1(q, k, v, scale, shape.is_causal, blocks_1),
        "FlashAttention-2": _octavo(q, k, v, scale, shape.is_causal),
        "torch SDPA": lambda: _torch(q, k, v, shape.is_causal),
    }
    with torch.inference_mode():
        return {name: best_s(run) for name, run in runs.items()}


def _standard(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, is_causal: bool) -> None:
    hidden = torch.ones(len(q), len(k), dtype=torch.bool).triu(1) if is_causal else None
    for head in range(q.shape[1]):
        s = (q[:, head] @ k[:, head].T) * scale
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


def _octavo(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, is_causal: bool
) -> Callable[[], torch.Tensor]:
    num_tokens = len(q)
    plan = AttentionPlan(
        query_starts=torch.tensor([0, num_tokens], dtype=torch.int32),
        seq_lens=torch.tensor([num_tokens], dtype=torch.int32),
        block_tables=torch.zeros(1, 1, dtype=torch.int32),
        block_size=num_tokens,
    )
    options = AttentionOptions(scale=scale, window_right=0 if is_causal else None)
    q_THD = q.float()  # as the layers give it
    return lambda: ops.paged_attention(q_THD, k[None], v[None], plan, options)


def _torch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, is_causal: bool) -> None:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
