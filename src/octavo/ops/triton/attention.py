"""Attention on a GPU: what its Triton kernels take. They, and Triton, are imported when first used.

Legend: T tokens, H query heads, K KV heads, D key size, E value size.
"""

from types import ModuleType

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.errors import MissingKernelsError

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
    return q_THD.device.type == "cuda" and q_THD.dtype in _DTYPES


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
            f"attention on {device} runs on Triton, which cannot be imported ({error}); run pip install 'triton>=3.7', "
            "or set OCTAVO_OPS=reference for plain PyTorch, which is slow",
            param="q",
        ) from error
    return kernels
