"""Native rotary position embedding, fp32."""

from torch import Tensor

from octavo.ops.cpu.launch import ROTARY, launch
from octavo.ops.cpu.tensors import as_index, is_fp32_on_cpu


def can_apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> bool:
    return is_fp32_on_cpu(q_THD)


def apply_rotary(q_THD: Tensor, k_TKD: Tensor, cos_sin_PR: Tensor, positions_T: Tensor) -> None:
    """Rotates in place; heads that do not lie contiguous are rotated in a copy and copied back."""
    cos_sin, positions = cos_sin_PR.contiguous(), as_index(positions_T)
    for x in (q_THD, k_TKD):
        rotated = x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()
        launch(
            ROTARY,
            x=rotated,
            token_stride=rotated.stride(0),
            head_stride=rotated.stride(1),
            cos_sin=cos_sin,
            positions=positions,
            rows=rotated.shape[0],
            heads=rotated.shape[1],
            rotary_size=cos_sin.shape[1],
        )
        if rotated is not x:
            x.copy_(rotated)
