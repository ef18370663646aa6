"""Attention over two sets of keys from attention over each.

Legend: B batch, S rows, T rows of all requests, H heads, E value size.
"""

import torch
from torch import Tensor

from octavo.ops.flash_attn.checks import check_is_tensor, check_queries, check_traceable_tensor
from octavo.ops.flash_attn.results import AttentionAndLse


def merge_attn_states(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> AttentionAndLse:
    """What attention over the keys of both gives, from its outputs and log-sum-exps over the keys of each; differentiable.

        lse = log(e^lse_a + e^lse_b),   o = e^(lse_a − lse)·o_a + e^(lse_b − lse)·o_b

    out (B, S, H, E) with lse fp32 (B, H, S), or (T, H, E) with (H, T); computed in fp32, of out's dtype. A row that saw
    nothing on one side (lse −∞, or +∞ as other kernels leave it) is the other's, on both 0. Not associative in its last bits:
    merge in index order.
    Raises `OpArgumentError`. Rabe and Staats 2021, arXiv 2112.05682, section 2.
    """
    check_is_tensor("out_a", out_a)
    layouts = {3: ("total tokens", "heads", "head_dim"), 4: ("batch", "seqlen", "heads", "head_dim")}
    check_queries("out_a", out_a, layouts.get(out_a.dim(), layouts[4]))
    lse_shape = (*out_a.shape[:-3], out_a.shape[-2], out_a.shape[-3])
    check_traceable_tensor("out_b", out_b, out_a.shape, (out_a.dtype,), out_a.device)
    for name, lse in (("lse_a", lse_a), ("lse_b", lse_b)):
        check_traceable_tensor(name, lse, lse_shape, (torch.float32,), out_a.device)
    lse_a, lse_b = (torch.where(lse == torch.inf, -torch.inf, lse) for lse in (lse_a, lse_b))
    highest = torch.maximum(lse_a, lse_b).detach()
    highest = torch.where(highest == -torch.inf, 0.0, highest)
    weight_a, weight_b = torch.exp(lse_a - highest), torch.exp(lse_b - highest)
    total = weight_a + weight_b
    is_empty = total == 0
    total = torch.where(is_empty, 1.0, total)
    lse = torch.where(is_empty, -torch.inf, highest + torch.log(total))
    share_a, share_b = (_of_outputs(weight / total) for weight in (weight_a, weight_b))
    out = share_a * out_a.float() + share_b * out_b.float()
    return AttentionAndLse(out.to(out_a.dtype), lse)


def _of_outputs(x: Tensor) -> Tensor:
    """(…, H, S) as (…, S, H, 1)."""
    return x.transpose(-1, -2)[..., None]
