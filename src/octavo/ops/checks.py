"""Checks of op arguments: each raises `OpArgumentError` with what, got, allowed and remedy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.ops.errors import OpArgumentError
from octavo.ops.recording import RecordedTensor

INDEX_DTYPES = (torch.int32, torch.int64)
FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SCALED_CACHE_DTYPES = (torch.float8_e4m3fn, torch.int8)
CACHE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, *SCALED_CACHE_DTYPES)
MAX_INT32 = 2**31 - 1
_LEAST_FLOAT32, _LARGEST_FLOAT32 = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
_MAX_SHOWN = 8


def check_shape(name: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    """`None` in `shape` allows any size."""
    got = tensor.shape
    if len(got) == len(shape):
        for size, wanted in zip(got, shape, strict=True):
            if wanted is not None and size != wanted:
                break
        else:
            return
    allowed = ", ".join("any" if size is None else str(size) for size in shape)
    raise OpArgumentError(
        f"{name} has the wrong shape: got {tuple(got)}; allowed ({allowed}); reshape or slice it", param=name
    )


def check_dtype(name: str, tensor: Tensor, allowed: Sequence[torch.dtype]) -> None:
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype) for dtype in allowed)
        raise OpArgumentError(
            f"{name} has the wrong dtype: got {tensor.dtype}; allowed {names}; convert it", param=name
        )


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise OpArgumentError(
            f"{name} is on the wrong device: got {tensor.device}; allowed {device}; move it there", param=name
        )


def check_tensor(
    name: str, tensor: Tensor, shape: Sequence[int | None], allowed: Sequence[torch.dtype], device: torch.device
) -> None:
    check_shape(name, tensor, shape)
    check_dtype(name, tensor, allowed)
    check_device(name, tensor, device)
    if not isinstance(tensor, RecordedTensor) and (tensor.layout is not torch.strided or tensor.is_neg()):
        raise OpArgumentError(
            f"{name}: got a tensor whose memory does not hold its values (sparse, or negated lazily); allowed dense ones; "
            "call to_dense() or resolve_neg()",
            param=name,
        )


def check_distinct_memory(name: str, tensor: Tensor) -> None:
    """No two elements lie in one place, as they do in an expanded tensor: what is written to it could not be read back."""
    if isinstance(tensor, RecordedTensor):
        return
    reach = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < reach:
            raise OpArgumentError(
                f"{name}: got strides {tensor.stride()} of {tuple(tensor.shape)}, whose elements overlap in memory; "
                "allowed a place for each; call contiguous()",
                param=name,
            )
        reach += (size - 1) * stride


def check_apart(name: str, written: Tensor, **read: Tensor) -> None:
    """What is written lies neither in what is read nor between its elements."""
    first, end = _span(written)
    for other, tensor in read.items():
        other_first, other_end = _span(tensor)
        if first < other_end and other_first < end:
            raise OpArgumentError(
                f"{name}: got memory of {other}, which is read while {name} is written; allowed memory of its own; clone one",
                param=name,
            )


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of its first byte and of the one behind its last."""
    if tensor.numel() == 0:
        return 0, 0
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (reach + 1) * tensor.element_size()


def shown(values: Sequence[int] | Sequence[float]) -> str:
    """A list for a message: the first eight, and how many there are."""
    if len(values) <= _MAX_SHOWN:
        return str(list(values))
    return f"[{', '.join(str(value) for value in values[:_MAX_SHOWN])}, … {len(values)} in all]"


def check_indices(name: str, indices: Tensor, size: int) -> None:
    """Every index is in 0 … size − 1. Only on a CPU: elsewhere it would wait for the device; while recording, every
    replay checks it. O(n)."""
    if isinstance(indices, RecordedTensor):
        indices.require_below(size)
        return
    if indices.device.type != "cpu" or indices.numel() == 0:
        return
    values = indices.numpy()
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        worst = low if low < 0 else high
        raise OpArgumentError(f"{name} is out of range: got {worst}; allowed 0 to {size - 1}", param=name)


def check_row_indices(name: str, indices: Tensor, x: Tensor) -> None:
    """Every index is that of a row of x; as `check_indices`."""
    if isinstance(indices, RecordedTensor) and isinstance(x, RecordedTensor):
        indices.require_below(x.buffer.row_set)
    else:
        check_indices(name, indices, x.shape[0])


def check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise OpArgumentError(f"{name} is out of range: got {value}; allowed any number above 0", param=name)


def check_softcap(value: float) -> None:
    """0, or a number that stays finite and above 0 in fp32."""
    if value != 0.0 and not _LEAST_FLOAT32 <= value <= _LARGEST_FLOAT32:
        raise OpArgumentError(
            f"softcap: got {value}; allowed {_LEAST_FLOAT32:.3g} to {_LARGEST_FLOAT32:.3g}, or 0 for none",
            param="softcap",
        )


def check_scale(name: str, value: float) -> None:
    """Finite in fp32."""
    if not -_LARGEST_FLOAT32 <= value <= _LARGEST_FLOAT32:
        raise OpArgumentError(
            f"{name}: got {value}; allowed any number that is finite in fp32, up to {_LARGEST_FLOAT32:.3g}", param=name
        )


def check_dropout(name: str, probability: float) -> None:
    if not 0.0 <= probability < 1.0:
        raise OpArgumentError(f"{name}: got {probability}; allowed 0 up to but not 1", param=name)


def check_rank_3(name: str, tensor: Tensor) -> tuple[int, int, int]:
    """The three sizes of a (tokens, heads, head size) tensor."""
    if tensor.dim() != 3:
        raise OpArgumentError(
            f"{name} has the wrong shape: got {tuple(tensor.shape)}; allowed (tokens, heads, head size); reshape it",
            param=name,
        )
    return tensor.shape[0], tensor.shape[1], tensor.shape[2]
