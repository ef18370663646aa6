"""Native matrix products. Legend: T tokens, K in features, N out features."""

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.cpu.tensors import address, optional_vector, with_dense_rows
from octavo.ops.quantized_activations import GROUP_SIZE, QuantizedActivations
from octavo.ops.weights import PackedWeight, StoredWeight, WeightFormat, WeightLayout

_FORMAT = {weight_format: _native.Format[weight_format.value] for weight_format in WeightFormat}


def can_pack_weight(weight: StoredWeight, device: torch.device, dtype: torch.dtype | None) -> bool:
    return device.type == "cpu" and weight.data.device.type == "cpu"


def pack_weight(weight: StoredWeight, device: torch.device, dtype: torch.dtype | None) -> PackedWeight:
    """Panels of csrc/panel.h, in new memory; the weight's codes are regrouped, not expanded. O(N·K)."""
    rows = with_dense_rows(weight.data)
    n, k = weight.out_features, weight.in_features
    code = _FORMAT[weight.format]
    data = torch.empty(_native.packed_bytes(code, n, k), dtype=torch.uint8)
    _native.pack(code, address(rows), rows.stride(0) * rows.element_size(), n, k, address(data))
    return PackedWeight(data, weight.format, WeightLayout.PANELS, n, k)


def can_dequantize(weight: PackedWeight | StoredWeight) -> bool:
    return isinstance(weight, PackedWeight) and weight.layout is WeightLayout.PANELS


def dequantize(weight: PackedWeight | StoredWeight) -> Tensor:
    """W (N, K) in fp32, new."""
    w_NK = torch.empty(weight.out_features, weight.in_features)
    _native.embedding(
        0,
        address(weight.data),
        _FORMAT[weight.format],
        address(w_NK),
        weight.out_features,
        weight.in_features,
        weight.out_features,
    )
    return w_NK


def can_linear(x_TK: Tensor, weight: PackedWeight, bias_N: Tensor | None) -> bool:
    return weight.layout is WeightLayout.PANELS


def linear(x_TK: Tensor, weight: PackedWeight, bias_N: Tensor | None) -> Tensor:
    """y = x·Wᵀ + b in fp32; rounded to x's dtype where that is another."""
    x, bias = with_dense_rows(x_TK.float()), optional_vector(bias_N)
    y_TN = x.new_empty(x.shape[0], weight.out_features)
    _native.linear(
        address(x),
        x.stride(0),
        address(weight.data),
        _FORMAT[weight.format],
        address(bias),
        address(y_TN),
        x.shape[0],
        weight.in_features,
        weight.out_features,
    )
    return y_TN.to(x_TK.dtype)


def can_quantize_activations(x_TK: Tensor) -> bool:
    return x_TK.device.type == "cpu"


def quantize_activations(x_TK: Tensor) -> QuantizedActivations:
    """Bytes, scales and sums of every token's groups, in one pass."""
    x = with_dense_rows(x_TK.float())
    num_tokens, in_features = x.shape
    quantized = QuantizedActivations(
        torch.empty(num_tokens, in_features, dtype=torch.int8),
        torch.empty(in_features // GROUP_SIZE, num_tokens),
        torch.empty(2 * in_features // GROUP_SIZE, num_tokens, dtype=torch.int32),
    )
    _native.quantize(
        address(x),
        x.stride(0),
        address(quantized.q_TK),
        address(quantized.scales_GT),
        address(quantized.sums_HT),
        num_tokens,
        in_features,
    )
    return quantized


def can_linear_int8(x: QuantizedActivations, weight: PackedWeight, bias_N: Tensor | None) -> bool:
    return weight.layout is WeightLayout.PANELS


def linear_int8(x: QuantizedActivations, weight: PackedWeight, bias_N: Tensor | None) -> Tensor:
    """y = scale·q·Wᵀ + b in fp32, by dot products of bytes."""
    bias = optional_vector(bias_N)
    y_TN = torch.empty(x.num_tokens, weight.out_features)
    _native.linear_int8(
        address(x.q_TK),
        address(x.scales_GT),
        address(x.sums_HT),
        address(weight.data),
        _FORMAT[weight.format],
        address(bias),
        address(y_TN),
        x.num_tokens,
        weight.in_features,
        weight.out_features,
    )
    return y_TN


def can_embedding(ids_T: Tensor, weight: PackedWeight) -> bool:
    return weight.layout is WeightLayout.PANELS


def embedding(ids_T: Tensor, weight: PackedWeight) -> Tensor:
    """Rows ids_T of W, (T, K) fp32."""
    ids = ids_T.to(torch.int64).contiguous()
    x_TK = torch.empty(ids.shape[0], weight.in_features)
    _native.embedding(
        address(ids),
        address(weight.data),
        _FORMAT[weight.format],
        address(x_TK),
        ids.shape[0],
        weight.in_features,
        weight.out_features,
    )
    return x_TK
