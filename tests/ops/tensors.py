"""Random tensors, and the comparison of bits."""

import torch


def randn(*shape: int, seed: int = 1) -> torch.Tensor:
    """Of a normal distribution; not those of `stored_weight`, whose seed is 0."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Unlike `torch.equal`, tells the zeros apart; fp32 only."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))
