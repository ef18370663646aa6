"""One attention of random tensors, by tiles or by the standard algorithm, ready to be called."""

from collections.abc import Callable

import torch

from octavo.bench.attention_costs import AttentionShape
from octavo.bench.attention_times import octavo_attention, standard_attention


def attend(is_on: bool, shape: AttentionShape, seed: int) -> Callable[[], object]:
    """Over bf16 tensors; on: by tiles."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, shape.seqlen, shape.heads, shape.head_dim)
    q, k, v = (torch.randn(size, generator=generator).to(torch.bfloat16) for _ in range(3))
    if is_on:
        return lambda: octavo_attention(q, k, v, shape.is_causal)
    q, k, v = (x[0].transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v))  # each head's rows side by side
    return lambda: standard_attention(q, k, v, shape.head_dim**-0.5, shape.is_causal)
