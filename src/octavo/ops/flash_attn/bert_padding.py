"""Padded batches to rows end to end, and back, as flash_attn.bert_padding has them; differentiable.

Legend: B batch, S rows, T rows that are not padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.ops.checks import check_indices, check_shape
from octavo.ops.flash_attn.checks import check_integers, check_is_tensor


class Unpadded(NamedTuple):
    """rows (T, …); their indices (T,) in the flattened batch; cu_seqlens int32 (B + 1,); seqused int32 (B,)."""

    hidden_states: Tensor
    indices: Tensor
    cu_seqlens: Tensor
    max_seqlen_in_batch: int
    seqused: Tensor


def index_first_axis(x: Tensor, indices: Tensor) -> Tensor:
    """Rows `indices` of x; O(T)."""
    check_is_tensor("x", x)
    _check_indices(indices, (None,), x, x.shape[0])
    return x.index_select(0, indices)


def index_put_first_axis(values: Tensor, indices: Tensor, first_axis_dim: int) -> Tensor:
    """(first_axis_dim, …) with `values` in rows `indices`, all different, and 0 elsewhere."""
    check_is_tensor("values", values)
    _check_indices(indices, values.shape[:1], values, first_axis_dim)
    return values.new_zeros(first_axis_dim, *values.shape[1:]).index_copy(0, indices.long(), values)


def unpad_input(hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None) -> Unpadded:
    """The rows of hidden_states (B, S, …) that attention_mask (B, S) marks with 1, or unused_mask: room that `seqused` leaves out."""
    check_is_tensor("hidden_states", hidden_states)
    check_is_tensor("attention_mask", attention_mask)
    check_shape("attention_mask", attention_mask, hidden_states.shape[:2])
    if unused_mask is not None:
        check_is_tensor("unused_mask", unused_mask)
        check_shape("unused_mask", unused_mask, attention_mask.shape)
    is_row = attention_mask.bool() if unused_mask is None else (attention_mask + unused_mask).bool()
    lens = is_row.sum(dim=-1, dtype=torch.int32)
    indices = is_row.flatten().nonzero().flatten()
    return Unpadded(
        hidden_states=index_first_axis(hidden_states.flatten(0, 1), indices),
        indices=indices,
        cu_seqlens=torch.nn.functional.pad(lens.cumsum(0, dtype=torch.int32), (1, 0)),
        max_seqlen_in_batch=int(lens.max()) if len(lens) else 0,
        seqused=attention_mask.sum(dim=-1, dtype=torch.int32),
    )


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """(B, S, …) with row t of hidden_states (T, …) at place indices[t] of the flattened batch, and 0 elsewhere."""
    return index_put_first_axis(hidden_states, indices, batch * seqlen).unflatten(0, (batch, seqlen))


def _check_indices(indices: Tensor, shape: Sequence[int | None], x: Tensor, size: int) -> None:
    """Integers of that shape, beside x, and on a CPU, but for a compiled call, below `size`."""
    check_integers("indices", indices, shape, x.device)
    if not torch.compiler.is_compiling():
        check_indices("indices", indices, size)
