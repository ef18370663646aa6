"""One call of attention over a plan, forward and backward, of any size down to nothing.

Legend: T rows, H query heads, K KV heads, D key size, E value size. Caches are (num_blocks, block_size, K, D or E).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.ops.attention import MAX_HEAD_SIZE, attention_backward, paged_attention
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.errors import OpArgumentError


class Forward(NamedTuple):
    """o (T, H, E) of q's dtype and the log-sum-exp, fp32 (H, T)."""

    out: Tensor
    lse: Tensor


class Gradients(NamedTuple):
    """Of the shapes and dtypes of q, k and v, contiguous."""

    dq: Tensor
    dk: Tensor
    dv: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Keys and values as a cache of any strides, and which rows attend to them.

    `plan` is None where there is nothing to attend to. `num_rows` rows of q, the first, belong to requests; None: how
    many do is known on the device only.
    """

    k_cache: Tensor
    v_cache: Tensor
    plan: AttentionPlan | None
    options: AttentionOptions
    num_rows: int | None

    def forward(self, q_THD: Tensor, out: Tensor | None = None) -> Forward:
        """To `out`, where that is given. Rows of no request get 0 and −∞."""
        total, num_heads, _ = q_THD.shape
        if out is None:
            out = q_THD.new_empty(total, num_heads, self.v_cache.shape[-1])
        lse_HT = q_THD.new_empty(num_heads, total, dtype=torch.float32)
        if self.plan is None or self.num_rows != total:
            out.zero_()
            lse_HT.fill_(-torch.inf)
        if self.plan is None or self.num_rows == 0:
            return Forward(out, lse_HT)
        rows = slice(0, self.num_rows)
        lse = lse_HT if self.num_rows in (None, total) else lse_HT[:, rows].contiguous()
        paged_attention(q_THD[rows], self.k_cache, self.v_cache, self.plan, self.options, out=out[rows], lse_HT=lse)
        if lse is not lse_HT:
            lse_HT[:, rows] = lse
        return Forward(out, lse_HT)

    def backward(
        self, do_THE: Tensor, dlse_HT: Tensor | None, q_THD: Tensor, o_THE: Tensor, lse_HT: Tensor
    ) -> Gradients:
        """From the gradients of both results; rows and keys of no request get 0.

        The log-sum-exp's enters as δ = rowsum(dO ∘ O) − dLSE (δ: Dao 2023, arXiv 2307.08691, section 2.3.2): with a
        column more, of 1 in O, of −dLSE in dO and of 0 in V, every backward pass computes it.
        """
        if self.plan is None or self.num_rows == 0:
            inputs = (q_THD, self.k_cache, self.v_cache)
            return Gradients(*(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in inputs))
        values, value_size = self.v_cache, self.v_cache.shape[-1]
        if dlse_HT is not None:
            _check_has_room_for_a_column(value_size)
            column = -dlse_HT.T[..., None].to(do_THE.dtype)
            do_THE, o_THE = torch.cat((do_THE, column), -1), torch.cat((o_THE, torch.ones_like(column)), -1)
            values = torch.nn.functional.pad(values, (0, 1))
        rows = slice(0, self.num_rows)
        dq, dk, dv = attention_backward(
            do_THE[rows].contiguous(),
            q_THD[rows],
            self.k_cache,
            values,
            o_THE[rows],
            lse_HT[:, rows].contiguous(),
            self.plan,
            self.options,
        )
        num_other_rows = q_THD.shape[0] - dq.shape[0]
        if num_other_rows:
            dq = torch.cat((dq, dq.new_zeros(num_other_rows, *dq.shape[1:])))
        return Gradients(dq.contiguous(), dk.contiguous(), dv[..., :value_size].contiguous())


def _check_has_room_for_a_column(value_size: int) -> None:
    if value_size == MAX_HEAD_SIZE:
        raise OpArgumentError(
            f"softmax_lse: got a gradient beside values of head size {value_size}; allowed up to {MAX_HEAD_SIZE - 1}; "
            "call detach() on softmax_lse",
            param="softmax_lse",
        )
