"""Checks of the tensors of a call: what can be told without their values.

Legend: B requests, S rows or keys of each, T rows and M keys of all, H query heads, K KV heads, D key size, E value size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from octavo.ops.attention import MAX_HEAD_SIZE
from octavo.ops.checks import INDEX_DTYPES, check_device, check_dtype, check_shape
from octavo.ops.errors import OpArgumentError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DEVICES = ("cpu", "cuda")


def check_queries(name: str, q: Tensor, layout: Sequence[str]) -> None:
    """Of `layout`'s rank, on a device and of a dtype that attention knows, with 1 to 512 elements a head."""
    _check_layout(name, q, layout)
    if q.device.type not in DEVICES:
        raise OpArgumentError(
            f"{name} is on the wrong device: got {q.device}; allowed {', '.join(DEVICES)}; move it there", param=name
        )
    check_traceable_tensor(name, q, (None,) * len(layout), DTYPES, q.device)
    _check_head_size(name, q)


def check_keys_and_values(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Sequence[str],
    *,
    names: tuple[str, str] = ("k", "v"),
    num_requests: int | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
) -> None:
    """Like the queries where they must be, like each other but for the value size."""
    k_name, v_name = names
    for name, x in ((k_name, k), (v_name, v)):
        _check_layout(name, x, layout)
    shape = (num_requests, *(None,) * (len(layout) - 2), q.shape[-1])
    check_traceable_tensor(k_name, k, shape, dtypes or (q.dtype,), q.device)
    check_traceable_tensor(v_name, v, (*k.shape[:-1], None), (k.dtype,), q.device)
    _check_head_size(v_name, v)
    num_heads, num_kv_heads = q.shape[-2], k.shape[-2]
    if num_kv_heads == 0 or num_heads % num_kv_heads:
        raise OpArgumentError(
            f"query heads: got {num_heads}; allowed multiples of {k_name}'s {num_kv_heads} heads", param="q"
        )


def check_alibi_slopes(alibi_slopes: Tensor | None, q: Tensor, num_requests: int) -> None:
    """fp32 (H,) or (B, H)."""
    if alibi_slopes is None:
        return
    check_is_tensor("alibi_slopes", alibi_slopes)
    num_heads = q.shape[-2]
    shape = (num_heads,) if alibi_slopes.dim() == 1 else (num_requests, num_heads)
    check_traceable_tensor("alibi_slopes", alibi_slopes, shape, (torch.float32,), q.device)
    if needs_gradient(alibi_slopes):
        raise OpArgumentError(
            "alibi_slopes: got a tensor that requires a gradient; allowed constants; call detach() on it",
            param="alibi_slopes",
        )


def check_integers(name: str, x: Tensor, shape: Sequence[int | None], device: torch.device) -> None:
    """int32 or int64."""
    check_traceable_tensor(name, x, shape, INDEX_DTYPES, device)


def check_packed(name: str, x: Tensor, layout: Sequence[str], count: int) -> None:
    """`count` tensors stacked before the heads."""
    _check_layout(name, x, layout)
    check_shape(name, x, (*(None,) * (len(layout) - 3), count, None, None))


def check_is_tensor(name: str, x: object) -> Tensor:
    """x, which is one."""
    if not isinstance(x, Tensor):
        raise OpArgumentError(f"{name}: got {type(x).__name__}; allowed a tensor", param=name)
    return x


def check_traceable_tensor(
    name: str, x: Tensor, shape: Sequence[int | None], dtypes: Sequence[torch.dtype], device: torch.device
) -> None:
    """As `octavo.ops.checks.check_tensor`, but torch.compile can trace it: operators get negated views resolved."""
    check_is_tensor(name, x)
    check_shape(name, x, shape)
    check_dtype(name, x, dtypes)
    check_device(name, x, device)
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:
        raise OpArgumentError(
            f"{name}: got a tensor with a tangent; attention has no forward-mode derivative; use a backward pass",
            param=name,
        )
    if x.layout is not torch.strided:
        raise OpArgumentError(
            f"{name}: got a tensor of layout {x.layout}; allowed dense ones; call to_dense()", param=name
        )


def needs_gradient(x: object) -> bool:
    return isinstance(x, Tensor) and torch.is_grad_enabled() and x.requires_grad


def refuse_gradient(reason: str, **tensors: Tensor | None) -> None:
    """Where no backward pass is, a gradient that somebody waits for would be lost."""
    for name, x in tensors.items():
        if needs_gradient(x):
            raise OpArgumentError(
                f"{name}: got a tensor that requires a gradient, and {reason} has no backward pass; allowed constants; "
                "call it under torch.no_grad(), or on detach()ed tensors",
                param=name,
            )


def _check_layout(name: str, x: Tensor, layout: Sequence[str]) -> None:
    check_is_tensor(name, x)
    if x.dim() != len(layout):
        raise OpArgumentError(
            f"{name} has the wrong shape: got {tuple(x.shape)}; allowed ({', '.join(layout)}); reshape it", param=name
        )


def _check_head_size(name: str, x: Tensor) -> None:
    size = x.shape[-1]
    if not 1 <= size <= MAX_HEAD_SIZE:
        raise OpArgumentError(f"head size of {name}: got {size}; allowed 1 to {MAX_HEAD_SIZE}", param=name)
