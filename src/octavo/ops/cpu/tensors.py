"""What the native kernels need of tensors: addresses, and rows that lie as kernels read them."""

import torch
from torch import Tensor


def is_fp32_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def address(tensor: Tensor | None) -> int:
    """Of the first element; 0, the null pointer, for none. The caller keeps the tensor alive."""
    return 0 if tensor is None else tensor.data_ptr()


def is_dense_but_first(x: Tensor) -> bool:
    """Whether every slice x[i] is contiguous."""
    expected = 1
    for size, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def with_dense_rows(x: Tensor) -> Tensor:
    """`x` itself if every row x[i] is contiguous, else a contiguous copy."""
    return x if is_dense_but_first(x) else x.contiguous()


def as_fp32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else x.float()


def as_index(x: Tensor) -> Tensor:
    """Contiguous int64."""
    return (x if x.dtype == torch.int64 else x.to(torch.int64)).contiguous()


def vector(x: Tensor) -> Tensor:
    """A parameter as contiguous fp32."""
    return x.to(torch.float32).contiguous()


def optional_vector(x: Tensor | None) -> Tensor | None:
    return None if x is None else vector(x)
