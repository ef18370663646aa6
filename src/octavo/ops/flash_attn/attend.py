"""One call of attention over a plan, forward and backward, of any size down to nothing.

Legend: T rows, H query heads, K KV heads, D key size, E value size. Caches are (num_blocks, block_size, K, D or E).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from octavo.ops.attention import attention_backward, paged_attention
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan


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
        arguments = self.k_cache, self.v_cache, self.plan, self.options
        paged_attention(q_THD[rows], *arguments, out=out[rows], lse_HT=lse_HT[:, rows])
        return Forward(out, lse_HT)

    def backward(
        self, do_THE: Tensor, dlse_HT: Tensor | None, q_THD: Tensor, o_THE: Tensor, lse_HT: Tensor
    ) -> Gradients:
        """From the gradients of both results; rows and keys of no request get 0."""
        if self.plan is None or self.num_rows == 0:
            inputs = (q_THD, self.k_cache, self.v_cache)
            return Gradients(*(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in inputs))
        rows = slice(0, self.num_rows)
        dq, dk, dv = attention_backward(
            do_THE[rows],
            q_THD[rows],
            self.k_cache,
            self.v_cache,
            o_THE[rows],
            lse_HT[:, rows],
            self.plan,
            self.options,
            dlse_HT=None if dlse_HT is None else dlse_HT[:, rows],
        )
        num_other_rows = q_THD.shape[0] - dq.shape[0]
        if num_other_rows:
            dq = torch.cat((dq, dq.new_zeros(num_other_rows, *dq.shape[1:])))
        return Gradients(dq.contiguous(), dk.contiguous(), dv.contiguous())
