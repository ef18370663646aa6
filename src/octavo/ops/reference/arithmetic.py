"""The arithmetic that the reference is built of, chosen so that a row's bits never depend on its neighbours.

Torch's own matmul, sum and exp may take another path for another number of rows or threads.
These do not: matmul always runs on tiles of one shape, sums are a fixed binary tree of
element-wise additions, and transcendental functions are evaluated in fp64 and rounded once.
On other devices than the CPU matmul is the vendor's.
"""

import torch
from torch import Tensor
from torch.nn import functional

ROW_TILE = 16


def tiled_linear(x_TK: Tensor, weight_NK: Tensor) -> Tensor:
    """x·Wᵀ, computed `ROW_TILE` rows at a time; the last tile is padded with zero rows. fp32 in and out."""
    num_rows = x_TK.shape[0]
    padded = functional.pad(x_TK, (0, 0, 0, -num_rows % ROW_TILE)).contiguous()
    tiles = [tile @ weight_NK.T for tile in torch.split(padded, ROW_TILE)] if num_rows else []
    return torch.cat(tiles)[:num_rows] if tiles else x_TK.new_zeros(0, weight_NK.shape[0])


def tree_sum(x: Tensor) -> Tensor:
    """Sum over the last dimension, kept as size 1: halves are added until one element is left. O(n)."""
    width = x.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        folded = x[..., :half].clone()
        folded[..., : width - half] += x[..., half:width]
        x, width = folded, half
    return x


def exp(x: Tensor) -> Tensor:
    """e^x, correctly rounded to fp32 but for about one argument in 2²⁸."""
    return torch.exp(x.double()).float()


def tanh(x: Tensor) -> Tensor:
    """tanh x, rounded as `exp` is."""
    return torch.tanh(x.double()).float()


def fused_multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a·b + c of fp32, rounded once.

    In fp64 the product is exact and the sum is rounded to odd, after which rounding to fp32 is as if
    from the exact sum. Boldo and Melquiond 2008, Emulation of a FMA and correctly rounded sums, section 3.
    """
    product, addend = torch.broadcast_tensors(a.double() * b.double(), c.double())
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)  # 2Sum (Knuth): exact
    bits = total.contiguous().view(torch.int64)
    must_move = ((error > 0) | (error < 0)) & ((bits & 1) == 0)
    outward = torch.where((error > 0) == (total > 0), 1, -1)
    return torch.where(must_move, bits + outward, bits).view(torch.float64).float()
