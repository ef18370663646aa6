"""Native matrix products. Legend: T tokens, K in features, N out features."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.cpu.launch import (
    EMBEDDING,
    LINEAR,
    LINEAR_BF16,
    LINEAR_I8,
    LINEAR_INT8,
    QUANTIZE_GROUPS,
    QUANTIZE_ROWS,
    ROUND,
    launch,
)
from octavo.ops.cpu.tensors import address, as_fp32, as_index, is_fp32_on_cpu, optional_vector, with_dense_rows
from octavo.ops.cpu.weight_memory import WeightMemory
from octavo.ops.quantized_activations import (
    GROUP_SIZE,
    PAIRED_MULTIPLE,
    Bf16Activations,
    QuantizedActivations,
    QuantizedRows,
    padded_size,
)
from octavo.ops.reference.linear import stacked
from octavo.ops.weights import PackedWeight, StoredWeight, WeightFormat, WeightLayout

PANEL_COLUMNS = 32
"""Output features side by side in a panel."""

_ROWS_AT_A_TIME = 1024


class _PerThread(threading.local):
    """So that weights packed by one thread, one after the other, are neighbours."""

    def __init__(self) -> None:
        self.memory = WeightMemory()


_weights = _PerThread()

_FORMAT = {weight_format: _native.Format[weight_format.value] for weight_format in WeightFormat}
_LAYOUTS = (WeightLayout.PANELS, WeightLayout.TILES)


def can_pack_weight(weight: StoredWeight, device: torch.device, dtype: torch.dtype | None) -> bool:
    return device.type == "cpu" and weight.data.device.type == "cpu"


def pack_weight(weight: StoredWeight, device: torch.device, dtype: torch.dtype | None) -> PackedWeight:
    """Panels of csrc/panel.h, in new memory; the weight's codes are regrouped, not expanded. O(N·K)."""
    return pack_stacked([weight], device, dtype)


def can_pack_stacked(weights: Sequence[StoredWeight], device: torch.device, dtype: torch.dtype | None) -> bool:
    return device.type == "cpu" and all(weight.data.device.type == "cpu" for weight in weights)


def pack_stacked(weights: Sequence[StoredWeight], device: torch.device, dtype: torch.dtype | None) -> PackedWeight:
    """Each packed straight to its place among the panels; where one ends within a panel, all are copied together first."""
    if any(weight.out_features % PANEL_COLUMNS for weight in weights[:-1]):
        weights = [stacked(weights)]
    k, weight_format = weights[0].in_features, weights[0].format
    n, layout = sum(weight.out_features for weight in weights), _layout(weight_format, k, dtype)
    code = _native_format(weight_format, layout)
    data = _weights.memory.take(_native.packed_bytes(code, n, k))
    start = 0
    for weight in weights:
        rows = with_dense_rows(weight.data)
        _native.pack(
            code, address(rows), rows.stride(0) * rows.element_size(), weight.out_features, k, address(data) + start
        )
        start += _native.packed_bytes(code, weight.out_features, k)
    return PackedWeight(data, weight_format, layout, n, k)


def _layout(weight_format: WeightFormat, in_features: int, dtype: torch.dtype | None) -> WeightLayout:
    is_for_tiles = dtype is torch.bfloat16 and weight_format is WeightFormat.BF16 and _native.has_bf16_tiles()
    return WeightLayout.TILES if is_for_tiles and in_features % PAIRED_MULTIPLE == 0 else WeightLayout.PANELS


def _native_format(weight_format: WeightFormat, layout: WeightLayout) -> _native.Format:
    return _native.Format.BF16_TILES if layout is WeightLayout.TILES else _FORMAT[weight_format]


def can_dequantize(weight: PackedWeight | StoredWeight) -> bool:
    return isinstance(weight, PackedWeight) and weight.layout in _LAYOUTS


def dequantize(weight: PackedWeight | StoredWeight) -> Tensor:
    """W (N, K) in fp32, new."""
    w_NK = torch.empty(weight.out_features, weight.in_features)
    assert isinstance(weight, PackedWeight), "what can_dequantize says"
    _launch_embedding(None, weight, 1.0, w_NK)
    return w_NK


def can_linear(x_TK: Tensor, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> bool:
    return weight.layout in _LAYOUTS


def linear(x_TK: Tensor, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = x·Wᵀ + b in fp32; rounded to x's dtype where that is another."""
    x = with_dense_rows(as_fp32(x_TK))
    y_TN = _dense_outputs(x, x.shape[0], weight, out_TN)
    launch(
        LINEAR,
        x=x,
        x_stride=x.stride(0),
        weight=weight.data,
        format=_native_format(weight.format, weight.layout),
        bias=optional_vector(bias_N),
        y=y_TN,
        y_stride=y_TN.stride(0),
        rows=x.shape[0],
        in_features=weight.in_features,
        out_features=weight.out_features,
    )
    if out_TN is not None:
        return _given(y_TN, out_TN)
    return y_TN if y_TN.dtype == x_TK.dtype else y_TN.to(x_TK.dtype)


def can_round_bf16(x_TK: Tensor) -> bool:
    return is_fp32_on_cpu(x_TK)


def round_bf16(x_TK: Tensor) -> Bf16Activations:
    """x in bf16, paired for AMX tiles."""
    x = with_dense_rows(x_TK)
    y_TK = x.new_empty(x.shape, dtype=torch.bfloat16)
    is_paired = _native.has_bf16_tiles() and x.shape[1] % PAIRED_MULTIPLE == 0
    launch(ROUND, x=x, x_stride=x.stride(0), y=y_TK, is_paired=is_paired, rows=x.shape[0], channels=x.shape[1])
    return Bf16Activations(y_TK, is_paired)


def can_linear_bf16(x: Bf16Activations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> bool:
    return weight.layout in _LAYOUTS


def linear_bf16(x: Bf16Activations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = x·Wᵀ + b in fp32: products of bf16 on AMX tiles, else of x widened and W dequantised to fp32."""
    if not x.is_paired:
        return linear(x.data_TK.float(), weight, bias_N, out_TN)
    y_TN = _dense_outputs(x.data_TK, x.num_tokens, weight, out_TN)
    launch(
        LINEAR_BF16,
        x=x.data_TK,
        weight=weight.data,
        format=_native_format(weight.format, weight.layout),
        bias=optional_vector(bias_N),
        y=y_TN,
        y_stride=y_TN.stride(0),
        rows=x.num_tokens,
        in_features=weight.in_features,
        out_features=weight.out_features,
    )
    return _given(y_TN, out_TN)


def _dense_outputs(x: Tensor, num_tokens: int, weight: PackedWeight, out_TN: Tensor | None) -> Tensor:
    """Where a kernel writes: `out_TN`, if it is fp32 and its rows are dense; else new memory, which `_given` brings there."""
    if out_TN is not None and out_TN.dtype == torch.float32 and out_TN.stride(1) == 1:
        return out_TN
    return x.new_empty(num_tokens, weight.out_features, dtype=torch.float32)


def _given(y_TN: Tensor, out_TN: Tensor | None) -> Tensor:
    return y_TN if out_TN is None or out_TN is y_TN else out_TN.copy_(y_TN)


def can_quantize_activations(x_TK: Tensor) -> bool:
    return x_TK.device.type == "cpu"


def quantize_activations(x_TK: Tensor) -> QuantizedActivations:
    """Bytes, scales and sums of every token's groups, in one pass."""
    x = with_dense_rows(as_fp32(x_TK))
    num_tokens, in_features = x.shape
    quantized = QuantizedActivations(
        x.new_empty(num_tokens, in_features, dtype=torch.int8),
        x.new_empty(in_features // GROUP_SIZE, num_tokens),
        x.new_empty(2 * in_features // GROUP_SIZE, num_tokens, dtype=torch.int32),
    )
    launch(
        QUANTIZE_GROUPS,
        x=x,
        x_stride=x.stride(0),
        q=quantized.q_TK,
        scales=quantized.scales_GT,
        sums=quantized.sums_HT,
        rows=num_tokens,
        in_features=in_features,
    )
    return quantized


def can_linear_int8(
    x: QuantizedActivations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None
) -> bool:
    return weight.layout is WeightLayout.PANELS


def linear_int8(x: QuantizedActivations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = scale·q·Wᵀ + b in fp32, by dot products of bytes."""
    y_TN = _dense_outputs(x.scales_GT, x.num_tokens, weight, out_TN)
    launch(
        LINEAR_INT8,
        q=x.q_TK,
        scales=x.scales_GT,
        sums=x.sums_HT,
        weight=weight.data,
        format=_native_format(weight.format, weight.layout),
        bias=optional_vector(bias_N),
        y=y_TN,
        y_stride=y_TN.stride(0),
        rows=x.num_tokens,
        in_features=weight.in_features,
        out_features=weight.out_features,
    )
    return _given(y_TN, out_TN)


def can_quantize_weight(weight: StoredWeight) -> bool:
    return weight.data.device.type == "cpu"


def quantize_weight(weight: StoredWeight) -> StoredWeight:
    """A weight's rows are quantised as activations are; a few at a time, since they are widened to fp32."""
    data = torch.empty(weight.out_features, 4 + weight.in_features, dtype=torch.uint8)
    for start in range(0, weight.out_features, _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        quantized = quantize_rows(weight.data[rows])
        data[rows, :4] = quantized.scales_T[:, None].view(torch.uint8)
        data[rows, 4:] = quantized.q_TP[:, : weight.in_features].view(torch.uint8)
    return replace(weight, data=data, format=WeightFormat.I8)


def can_quantize_rows(x_TK: Tensor) -> bool:
    return x_TK.device.type == "cpu"


def quantize_rows(x_TK: Tensor) -> QuantizedRows:
    """Bytes, scale and sum of every token's row."""
    x = with_dense_rows(as_fp32(x_TK))
    num_tokens, in_features = x.shape
    quantized = QuantizedRows(
        x.new_empty(num_tokens, padded_size(in_features), dtype=torch.int8),
        x.new_empty(num_tokens),
        x.new_empty(num_tokens, dtype=torch.int32),
    )
    launch(
        QUANTIZE_ROWS,
        x=x,
        x_stride=x.stride(0),
        q=quantized.q_TP,
        scales=quantized.scales_T,
        sums=quantized.sums_T,
        rows=num_tokens,
        in_features=in_features,
    )
    return quantized


def can_linear_i8(x: QuantizedRows, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> bool:
    return weight.layout is WeightLayout.PANELS


def linear_i8(x: QuantizedRows, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = scale·q·Wᵀ + b in fp32, by dot products of bytes over all of K."""
    y_TN = _dense_outputs(x.scales_T, x.num_tokens, weight, out_TN)
    launch(
        LINEAR_I8,
        q=x.q_TP,
        scales=x.scales_T,
        sums=x.sums_T,
        weight=weight.data,
        bias=optional_vector(bias_N),
        y=y_TN,
        y_stride=y_TN.stride(0),
        rows=x.num_tokens,
        in_features=weight.in_features,
        out_features=weight.out_features,
    )
    return _given(y_TN, out_TN)


def can_embedding(ids_T: Tensor, weight: PackedWeight, scale: float) -> bool:
    return weight.layout in _LAYOUTS


def embedding(ids_T: Tensor, weight: PackedWeight, scale: float) -> Tensor:
    """Rows ids_T of W, times scale, (T, K) fp32."""
    ids = as_index(ids_T)
    x_TK = ids.new_empty(ids.shape[0], weight.in_features, dtype=torch.float32)
    _launch_embedding(ids, weight, scale, x_TK)
    return x_TK


def _launch_embedding(ids_T: Tensor | None, weight: PackedWeight, scale: float, y_TK: Tensor) -> None:
    launch(
        EMBEDDING,
        ids=ids_T,
        weight=weight.data,
        format=_native_format(weight.format, weight.layout),
        scale=scale,
        y=y_TK,
        rows=y_TK.shape[0],
        in_features=weight.in_features,
        out_features=weight.out_features,
    )
