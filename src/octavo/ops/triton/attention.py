"""Attention on a GPU: what its Triton kernels take. They, and Triton, are imported when first used.

Legend: T tokens, H query heads, K KV heads, D key size, E value size.
"""

import logging
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.errors import MissingKernelsError
from octavo.ops.triton.launch_table import LARGE_FP32_HEAD, LARGE_FP32_SHARED_BYTES

logger = logging.getLogger(__name__)
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def can_paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> bool:
    return q_THD.device.type == "cuda" and q_THD.dtype in _DTYPES


def can_attention_backward(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    dlse_HT: Tensor | None,
) -> bool:
    if q_THD.device.type != "cuda" or q_THD.dtype not in _DTYPES:
        return False
    is_large = q_THD.dtype == torch.float32 and max(k_cache.shape[3], v_cache.shape[3]) > LARGE_FP32_HEAD
    return not is_large or _holds_large_heads(q_THD.device)


@cache
def _holds_large_heads(device: torch.device) -> bool:
    shared_bytes: int = torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]
    if shared_bytes < LARGE_FP32_SHARED_BYTES:
        logger.warning(
            "gradients of attention in fp32 with heads above %d run on the reference, which is slow: a block needs %d bytes "
            "of shared memory and %s has %d; use bf16 or fp16",
            *(LARGE_FP32_HEAD, LARGE_FP32_SHARED_BYTES, device, shared_bytes),
        )
    return shared_bytes >= LARGE_FP32_SHARED_BYTES


def paged_attention(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    o_THE: Tensor,
    lse_HT: Tensor | None,
) -> None:
    """`reference.paged_attention`. Raises `MissingKernelsError` where Triton cannot be imported."""
    _kernels(q_THD.device).paged_attention(q_THD, k_cache, v_cache, plan, options, o_THE, lse_HT)


def attention_backward(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    *,
    dlse_HT: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.attention_backward`. Raises `MissingKernelsError` where Triton cannot be imported."""
    gradients: tuple[Tensor, Tensor, Tensor] = _kernels(q_THD.device).attention_backward(
        do_THE, q_THD, k_cache, v_cache, o_THE, lse_HT, plan, options, dlse_HT
    )
    return gradients


def _kernels(device: torch.device) -> ModuleType:
    try:
        from octavo.ops.triton import kernels
    except ImportError as error:
        raise MissingKernelsError(
            f"attention on {device} runs on Triton, which cannot be imported ({error}); run pip install 'triton>=3.6', "
            "or set OCTAVO_OPS=reference for plain PyTorch, which is slow",
            param="q",
        ) from error
    return kernels
