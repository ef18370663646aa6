"""Matrix products with packed weights: checked signatures. Legend: T tokens, K in features, N out features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo.ops import table
from octavo.ops.checks import FLOAT_DTYPES, INDEX_DTYPES, check_indices, check_tensor
from octavo.ops.dispatch import NATIVE
from octavo.ops.errors import OpArgumentError
from octavo.ops.quantized_activations import (
    GROUP_SIZE,
    PAIRED_MULTIPLE,
    Bf16Activations,
    QuantizedActivations,
    QuantizedRows,
    padded_size,
)
from octavo.ops.weights import PackedWeight, StoredWeight, WeightFormat, WeightLayout

MAX_I8_FEATURES = 65_536
"""255·127·K stays below 2³¹."""

_FLOAT_DTYPE = {
    WeightFormat.F32: torch.float32,
    WeightFormat.F16: torch.float16,
    WeightFormat.BF16: torch.bfloat16,
}


def pack_weight(weight: StoredWeight, *, device: torch.device | str, dtype: torch.dtype | None = None) -> PackedWeight:
    """A stored weight in the layout of the device's kernels.

    On a CPU it stays in its format's codes, and `dtype`, that of the activations it will be multiplied with, may choose their
    order: every op takes either. Elsewhere it is expanded to `dtype` (fp32 if None). The result may share memory with
    `weight` and never outlives its use.

    Raises `OpArgumentError` if the data is not what the format and sizes promise.
    """
    _check_stored(weight)
    _check_packed_dtype(dtype)
    return table.PACK_WEIGHT(weight, torch.device(device), dtype)


def pack_stacked(
    weights: Sequence[StoredWeight], *, device: torch.device | str, dtype: torch.dtype | None = None
) -> PackedWeight:
    """Stored weights of one format and width, stacked by output features and packed as `pack_weight` does."""
    if not weights:
        raise OpArgumentError("weights: got none; allowed one or more", param="weights")
    _check_packed_dtype(dtype)
    for weight in weights:
        _check_stored(weight)
        if (weight.format, weight.in_features) != (weights[0].format, weights[0].in_features):
            raise OpArgumentError(
                f"weights: got {weight.format} of {weight.in_features} in features beside {weights[0].format} of "
                f"{weights[0].in_features}; allowed one format and width",
                param="weights",
            )
    return table.PACK_STACKED(weights, torch.device(device), dtype)


def dequantize(weight: PackedWeight | StoredWeight) -> Tensor:
    """The matrix W (N, K) in fp32, exactly as its format defines it. A new tensor or a view of the weight's."""
    if isinstance(weight, StoredWeight):
        _check_stored(weight)
    return table.DEQUANTIZE(weight)


def linear(x_TK: Tensor, weight: PackedWeight, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """y = x·Wᵀ + b, (T, N) of x's dtype; W is dequantised to fp32, and products are summed in fp32.

    y is new, or `out`, whose rows may be apart (columns of a wider matrix).

    Every y[t, n] is summed over k in one order, whatever T and the number of threads.
    """
    check_tensor("x", x_TK, (None, weight.in_features), FLOAT_DTYPES, weight.data.device)
    _check_bias_and_out(bias, out, weight, x_TK.shape[0], x_TK.dtype)
    return table.LINEAR(x_TK, weight, bias, out)


def round_bf16(x_TK: Tensor) -> Bf16Activations:
    """x rounded to bf16, to nearest even, in new memory."""
    check_tensor("x", x_TK, (None, None), FLOAT_DTYPES, x_TK.device)
    return table.ROUND_BF16(x_TK)


def linear_bf16(
    x: Bf16Activations, weight: PackedWeight, bias: Tensor | None = None, *, out: Tensor | None = None
) -> Tensor:
    """y = x·Wᵀ + b, (T, N) fp32, of bf16 activations; y is new, or `out`, whose rows may be apart.

    On AMX's tiles W is rounded to bf16 as well (of codes of four, five or eight bits a tie away from zero); elsewhere it is
    dequantised to fp32. Products are summed in fp32, every y[t, n] in one order over k, whatever T and the number of threads.
    """
    check_tensor("x", x.data_TK, (None, weight.in_features), (torch.bfloat16,), weight.data.device)
    if not x.data_TK.is_contiguous() or (x.is_paired and x.in_features % PAIRED_MULTIPLE):
        raise OpArgumentError(
            "x: got rows that are not as round_bf16 gives them; allowed its results; round anew", param="x"
        )
    _check_bias_and_out(bias, out, weight, x.num_tokens, torch.float32)
    return table.LINEAR_BF16(x, weight, bias, out)


def has_bf16_tiles() -> bool:
    """Whether this processor multiplies bf16 on AMX's tiles, in the instruction set in use."""
    return NATIVE is not None and bool(NATIVE.has_bf16_tiles())


def quantize_activations(x_TK: Tensor) -> QuantizedActivations:
    """x as bytes: for every token and group of 32, scale = max|x| / 127 and q = x / scale to nearest even.

    x·(127 / max|x|) is what is rounded; a maximum below 2⁻¹⁰⁰ counts as zero; a group with an infinity or a NaN
    gets the scale NaN. The bits are the same for every backend. K must be a multiple of 32.
    """
    check_tensor("x", x_TK, (None, None), FLOAT_DTYPES, x_TK.device)
    if x_TK.shape[1] % GROUP_SIZE:
        raise OpArgumentError(
            f"x has the wrong number of columns: got {x_TK.shape[1]}; allowed multiples of {GROUP_SIZE}; "
            "use linear for this weight",
            param="x",
        )
    return table.QUANTIZE_ACTIVATIONS(x_TK)


def linear_int8(
    x: QuantizedActivations, weight: PackedWeight, bias: Tensor | None = None, *, out: Tensor | None = None
) -> Tensor:
    """y = x·Wᵀ + b, (T, N) fp32, of activations as bytes and a weight of a block format.

    y is new, or `out`, whose rows may be apart.

    Sums over a group of 32 are exact integers; groups are added in rising order of k, by fused multiply-adds in fp32:
    `reference.linear_int8` writes it down. The bits are the same for every backend, T and number of threads.
    """
    if not weight.format.is_block_format or weight.layout is WeightLayout.DENSE:
        raise OpArgumentError(
            f"weight: got format {weight.format} in layout {weight.layout}; allowed block formats as rows or panels; "
            "use linear",
            param="weight",
        )
    _check_quantized(x, weight)
    _check_bias_and_out(bias, out, weight, x.num_tokens, torch.float32)
    return table.LINEAR_INT8(x, weight, bias, out)


def quantize_weight(weight: StoredWeight) -> StoredWeight:
    """A float weight as I8: for every output feature scale = max|w| / 127 and w / scale as a byte, to nearest even.

    Raises `OpArgumentError` for a weight that is quantised already, or rows too long for exact sums in 32 bits.
    """
    _check_stored(weight)
    if weight.format not in _FLOAT_DTYPE or weight.in_features > MAX_I8_FEATURES:
        raise OpArgumentError(
            f"weight: got {weight.format} with {weight.in_features} in features; allowed F32, F16 and BF16 with at most "
            f"{MAX_I8_FEATURES}; use pack_weight as it is",
            param="weight",
        )
    return table.QUANTIZE_WEIGHT(weight)


def quantize_rows(x_TK: Tensor) -> QuantizedRows:
    """x as bytes: for every token scale = max|x| / 127 and q = x / scale to nearest even.

    Rounding, zeros, infinities and NaNs are as `quantize_activations` has them. The bits are the same for every backend.
    """
    check_tensor("x", x_TK, (None, None), FLOAT_DTYPES, x_TK.device)
    return table.QUANTIZE_ROWS(x_TK)


def linear_i8(
    x: QuantizedRows, weight: PackedWeight, bias: Tensor | None = None, *, out: Tensor | None = None
) -> Tensor:
    """y = x·Wᵀ + b, (T, N) fp32, of activations quantised by row and an I8 weight.

    y is new, or `out`, whose rows may be apart. A sum over K is one exact integer, scaled once: the bits are the same for
    every backend, T and number of threads.
    """
    if weight.format is not WeightFormat.I8 or weight.layout is WeightLayout.DENSE:
        raise OpArgumentError(
            f"weight: got format {weight.format} in layout {weight.layout}; allowed I8 as rows or panels; use linear",
            param="weight",
        )
    device = weight.data.device
    check_tensor("x.q_TP", x.q_TP, (None, padded_size(weight.in_features)), (torch.int8,), device)
    check_tensor("x.scales_T", x.scales_T, (x.num_tokens,), (torch.float32,), device)
    check_tensor("x.sums_T", x.sums_T, (x.num_tokens,), (torch.int32,), device)
    if not (x.q_TP.is_contiguous() and x.scales_T.is_contiguous() and x.sums_T.is_contiguous()):
        raise OpArgumentError(
            "x: got tensors that are not contiguous; allowed what quantize_rows gives; copy them", param="x"
        )
    _check_bias_and_out(bias, out, weight, x.num_tokens, torch.float32)
    return table.LINEAR_I8(x, weight, bias, out)


def embedding(ids_T: Tensor, weight: PackedWeight, scale: float = 1.0) -> Tensor:
    """Rows ids_T of W, times `scale`, (T, K) in fp32 (elsewhere than on a CPU: the packed dtype). O(T·K), whatever N."""
    check_tensor("ids", ids_T, (None,), INDEX_DTYPES, weight.data.device)
    check_indices("ids", ids_T, weight.out_features)
    return table.EMBEDDING(ids_T, weight, scale)


def _check_packed_dtype(dtype: torch.dtype | None) -> None:
    if dtype is not None and dtype not in FLOAT_DTYPES:
        raise OpArgumentError(f"dtype: got {dtype}; allowed a float dtype, or None for fp32", param="dtype")


def _check_bias_and_out(
    bias: Tensor | None, out: Tensor | None, weight: PackedWeight, num_tokens: int, dtype: torch.dtype
) -> None:
    """`dtype` is that of the result."""
    device = weight.data.device
    if bias is not None:
        check_tensor("bias", bias, (weight.out_features,), FLOAT_DTYPES, device)
    if out is not None:
        check_tensor("out", out, (num_tokens, weight.out_features), (dtype,), device)


def _check_quantized(x: QuantizedActivations, weight: PackedWeight) -> None:
    num_groups, device = weight.in_features // GROUP_SIZE, weight.data.device
    check_tensor("x.q_TK", x.q_TK, (None, weight.in_features), (torch.int8,), device)
    check_tensor("x.scales_GT", x.scales_GT, (num_groups, x.num_tokens), (torch.float32,), device)
    check_tensor("x.sums_HT", x.sums_HT, (2 * num_groups, x.num_tokens), (torch.int32,), device)
    if not (x.q_TK.is_contiguous() and x.scales_GT.is_contiguous() and x.sums_HT.is_contiguous()):
        raise OpArgumentError(
            "x: got tensors that are not contiguous; allowed what quantize_activations gives; copy them", param="x"
        )


def _check_stored(weight: StoredWeight) -> None:
    fmt, n, k = weight.format, weight.out_features, weight.in_features
    if k % fmt.block_size:
        raise OpArgumentError(
            f"in_features of a {fmt} weight: got {k}; allowed multiples of {fmt.block_size}; use another format",
            param="weight",
        )
    if fmt.is_block_format or fmt is WeightFormat.I8:
        check_tensor("weight.data", weight.data, (n, fmt.row_bytes(k)), (torch.uint8,), weight.data.device)
    else:
        check_tensor("weight.data", weight.data, (n, k), (_FLOAT_DTYPE[fmt],), weight.data.device)
