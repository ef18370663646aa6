"""Native rotary position embedding, fp32."""

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.cpu.tensors import address, is_fp32_on_cpu


def can_apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> bool:
    return is_fp32_on_cpu(q_THD)


def apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> None:
    """Rotates in place; heads that do not lie contiguous are rotated in a copy and copied back."""
    cos_sin, positions = cos_sin_PR.contiguous(), positions_T.to(torch.int64).contiguous()
    for x in (q_THD, k_TKD):
        rotated = x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()
        _native.rotary(
            address(rotated),
            rotated.stride(0),
            rotated.stride(1),
            address(cos_sin),
            address(positions),
            rotated.shape[0],
            rotated.shape[1],
            cos_sin.shape[1],
        )
        if rotated is not x:
            x.copy_(rotated)
