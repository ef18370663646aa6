"""Runs the launches of an op on the device of its tensors. Imports Triton."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.errors import MissingKernelsError
from octavo.ops.triton.arguments import is_addressable
from octavo.ops.triton.backward import backward_launches
from octavo.ops.triton.forward import forward_launches
from octavo.ops.triton.launch_table import LARGE_FP32_HEAD, LARGE_FP32_SHARED_BYTES, DeviceLimits

_INTERPRETED = DeviceLimits(capability=(8, 0), shared_bytes=163 << 10)
_FIRST_CAPABILITY = (8, 0)


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> None:
    """Rows of no request, which there may be where the plan's values are not looked at, are left as they are."""
    group = q_THD.shape[1] // k_cache.shape[2]
    o = o_THE if is_addressable(o_THE, group) else o_THE.contiguous()
    for launch in forward_launches(q_THD, k_cache, v_cache, plan, options, o, lse_HT, device_limits(q_THD.device)):
        with _current(q_THD.device):
            launch.run()
    if o is not o_THE:
        o_THE.copy_(o)


def attention_backward(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    dlse_HT: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of no request get 0. Raises `MissingKernelsError` where a block's memory is too small."""
    limits = device_limits(q_THD.device)
    _check_memory(q_THD, max(k_cache.shape[3], v_cache.shape[3]), limits)
    dq, dk, dv = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q_THD, k_cache, v_cache))
    launches = backward_launches(
        do_THE,
        q_THD,
        k_cache,
        v_cache,
        o_THE,
        lse_HT,
        plan,
        options,
        (dq, dk, dv),
        limits,
        dlse_HT,
    )
    for launch in launches:
        with _current(q_THD.device):
            launch.run()
    return dq, dk, dv


def device_limits(device: torch.device) -> DeviceLimits:
    """A CPU's, on which Triton interprets, are those of an A100. Raises `MissingKernelsError`."""
    if device.type == "cpu":
        return _INTERPRETED
    properties = torch.cuda.get_device_properties(device)
    capability = (properties.major, properties.minor)
    if capability < _FIRST_CAPABILITY:
        raise MissingKernelsError(
            f"attention on {device}: got {properties.name} of compute capability {capability[0]}.{capability[1]}; Triton's "
            "kernels need 8.0 or more; set OCTAVO_OPS=reference for plain PyTorch, which is slow",
            param="q",
        )
    return DeviceLimits(
        capability=capability,
        shared_bytes=properties.shared_memory_per_block_optin,  # type: ignore[attr-defined]  # missing in torch's stub
    )


def _check_memory(q_THD: Tensor, head_size: int, limits: DeviceLimits) -> None:
    is_large = q_THD.dtype == torch.float32 and head_size > LARGE_FP32_HEAD
    if is_large and limits.shared_bytes < LARGE_FP32_SHARED_BYTES:
        raise MissingKernelsError(
            f"gradients of attention in fp32: got heads of {head_size}; allowed up to {LARGE_FP32_HEAD} on {q_THD.device}, since a "
            f"block has {limits.shared_bytes:,} bytes of shared memory there and larger ones need {LARGE_FP32_SHARED_BYTES:,}; "
            "use bf16 or fp16, or set OCTAVO_OPS=reference for plain PyTorch, which is slow",
            param="q",
        )


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
