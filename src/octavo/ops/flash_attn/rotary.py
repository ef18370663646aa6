"""Rotary position embedding in both pairings, differentiable, at positions that may differ by request.

Legend: B batch, S rows, H heads, D head size, T tokens, P positions, R rotary size.
"""

import torch
from torch import Tensor

from octavo.ops.checks import check_indices, check_shape
from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn.checks import check_integers, check_queries, check_traceable_tensor, needs_gradient
from octavo.ops.flash_attn.plans import check_longest, check_starts
from octavo.ops.flash_attn.settings import check_flags, index

_RAGGED_LAYOUT = ("total tokens", "heads", "head_dim")


def rotate(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    """x with the first R elements of each head turned by the angle of its position, computed in fp32, of x's dtype.

    (a, b) → (a·cos − b·sin, b·cos + a·sin) for the pairs (x[2i], x[2i + 1]) if interleaved, else (x[i], x[i + R/2]).
    x (…, heads, D); cos, sin (P, R/2); positions (…) int64. Su et al. 2021, arXiv 2104.09864, section 3.4.2.
    """
    half = cos.shape[1]
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else (turned[..., :half], turned[..., half:])
    c, s = (table[positions][..., None, :].float() for table in (cos, sin))
    a, b = a.float() * c - b.float() * s, b.float() * c + a.float() * s
    both = torch.stack((a, b), dim=-1).flatten(-2) if interleaved else torch.cat((a, b), dim=-1)
    return torch.cat((both.to(x.dtype), rest), dim=-1)


def apply_rotary_emb(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    interleaved: bool = False,
    inplace: bool = False,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> Tensor:
    """Row s of request b turned to position seqlen_offsets[b] + s, as flash_attn.layers.rotary does it.

    x (B, S, H, D), or (T, H, D) with cu_seqlens (B + 1,); cos and sin (P, R/2) of x's dtype, R ≤ D. `inplace` writes to x,
    which then must not need a gradient. Rows behind the last request's count on from its. Lengths and positions are checked on
    a CPU, and not in a compiled call. Raises `OpArgumentError`.
    """
    check_queries("x", x, ("batch", "seqlen", "heads", "head_dim") if cu_seqlens is None else _RAGGED_LAYOUT)
    check_rotary_tables(x, cos, sin)
    check_flags(interleaved=interleaved, inplace=inplace)
    positions = _positions(x, seqlen_offsets, cu_seqlens, max_seqlen)
    if not torch.compiler.is_compiling():
        check_indices("position in cos and sin", positions, cos.shape[0])
    turned = rotate(x, cos, sin, positions, interleaved)
    if not inplace:
        return turned
    if needs_gradient(x):
        raise OpArgumentError("inplace: got True for an x that requires a gradient; allowed False", param="inplace")
    return x.copy_(turned)


def check_rotary_tables(x: Tensor, cos: Tensor, sin: Tensor, names: tuple[str, str] = ("cos", "sin")) -> None:
    """(P, R/2) of x's dtype, with R up to the head size."""
    for name, table in zip(names, (cos, sin), strict=True):
        check_traceable_tensor(name, table, (None, None), (x.dtype,), x.device)
    check_shape(names[1], sin, cos.shape)
    if 2 * cos.shape[1] > x.shape[-1]:
        raise OpArgumentError(
            f"{names[0]}: got {cos.shape[1]} angles; allowed up to half the head size {x.shape[-1]}", param=names[0]
        )


def _positions(x: Tensor, offsets: int | Tensor, cu_seqlens: Tensor | None, max_seqlen: int | None) -> Tensor:
    """int64 (B, S), or (T,) where requests lie end to end."""
    num_requests = x.shape[0]
    if cu_seqlens is not None:
        check_integers("cu_seqlens", cu_seqlens, (None,), x.device)
        num_requests = cu_seqlens.shape[0] - 1
        if num_requests < 0 or (num_requests == 0 and x.shape[0]):
            raise OpArgumentError(
                f"cu_seqlens: got {cu_seqlens.shape[0]} numbers for {x.shape[0]} rows; allowed one more than requests, to "
                "which the rows belong",
                param="cu_seqlens",
            )
    if isinstance(offsets, Tensor):
        check_integers("seqlen_offsets", offsets, (num_requests,), x.device)
        offset = offsets.long()
    else:
        offset = torch.full((num_requests,), index("seqlen_offsets", offsets), device=x.device)
    if max_seqlen is not None:
        max_seqlen = index("max_seqlen", max_seqlen)
    if cu_seqlens is None:
        if max_seqlen is not None and max_seqlen < x.shape[1]:
            raise OpArgumentError(f"max_seqlen: got {max_seqlen}; allowed {x.shape[1]} or more", param="max_seqlen")
        return torch.arange(x.shape[1], device=x.device) + offset[:, None]
    if not torch.compiler.is_compiling():
        check_starts("cu_seqlens", cu_seqlens, x.shape[0])
        if max_seqlen is not None:
            check_longest("max_seqlen", cu_seqlens.diff(), max_seqlen)
    token = torch.arange(x.shape[0], device=x.device)
    request = torch.searchsorted(cu_seqlens[1:], token, right=True).clamp(max=num_requests - 1)
    return token - cu_seqlens[request] + offset[request]
