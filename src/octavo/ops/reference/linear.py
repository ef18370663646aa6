"""Matrix products with packed weights. Legend: T tokens, K in features, N out features."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from octavo.ops.quantized_activations import PAIRED_ROWS, Bf16Activations
from octavo.ops.reference.arithmetic import tiled_linear
from octavo.ops.reference.dequantize import dequantize_rows
from octavo.ops.weights import PackedWeight, StoredWeight, WeightLayout


def pack_weight(weight: StoredWeight, device: torch.device, dtype: torch.dtype | None) -> PackedWeight:
    """On a CPU the stored rows themselves; elsewhere expanded to `dtype`."""
    if device.type == "cpu":
        data, layout = weight.data, WeightLayout.ROWS
    else:
        rows = dequantize_rows(weight.data.to(device), weight.format)
        data, layout = rows.to(dtype or torch.float32), WeightLayout.DENSE
    return PackedWeight(data.contiguous(), weight.format, layout, weight.out_features, weight.in_features)


def pack_stacked(weights: Sequence[StoredWeight], device: torch.device, dtype: torch.dtype | None) -> PackedWeight:
    """The weights one below the other."""
    return pack_weight(stacked(weights), device, dtype)


def stacked(weights: Sequence[StoredWeight]) -> StoredWeight:
    """The same rows as one weight; shares memory with it where there is one."""
    if len(weights) == 1:
        return weights[0]
    data, out_features = torch.cat([weight.data for weight in weights]), sum(weight.out_features for weight in weights)
    return replace(weights[0], data=data, out_features=out_features)


def dequantize(weight: PackedWeight | StoredWeight) -> Tensor:
    """W (N, K) in fp32."""
    if isinstance(weight, PackedWeight) and weight.layout is WeightLayout.DENSE:
        return weight.data.float()
    return dequantize_rows(weight.data, weight.format)


def linear(x_TK: Tensor, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = x·Wᵀ + b: fp32 products and sums on a CPU, the vendor's elsewhere; result of x's dtype."""
    if x_TK.device.type != "cpu":
        bias = None if bias_N is None else bias_N.to(x_TK.dtype)
        y_TN = functional.linear(x_TK, weight.data.to(x_TK.dtype), bias)
    else:
        y_TN = tiled_linear(x_TK.float(), dequantize(weight))
        if bias_N is not None:
            y_TN = y_TN + bias_N.float()
        y_TN = y_TN.to(x_TK.dtype)
    return y_TN if out_TN is None else out_TN.copy_(y_TN)


def round_bf16(x_TK: Tensor) -> Bf16Activations:
    """x in bf16, one row after the other."""
    return Bf16Activations(x_TK.to(torch.bfloat16).contiguous(), is_paired=False)


def linear_bf16(x: Bf16Activations, weight: PackedWeight, bias_N: Tensor | None, out_TN: Tensor | None) -> Tensor:
    """y = x·Wᵀ + b in fp32, of x widened."""
    return linear(bf16_rows(x).float(), weight, bias_N, out_TN)


def bf16_rows(x: Bf16Activations) -> Tensor:
    """x (T, K), one row after the other."""
    if not x.is_paired or x.data_TK.numel() == 0:
        return x.data_TK
    blocks = [
        block.reshape(x.in_features // 2, len(block), 2).transpose(0, 1) for block in x.data_TK.split(PAIRED_ROWS)
    ]
    return torch.cat([block.reshape(-1, x.in_features) for block in blocks])


def embedding(ids_T: Tensor, weight: PackedWeight, scale: float) -> Tensor:
    """Rows `ids_T` of W, times scale, (T, K): only these are dequantised. fp32, or the dtype of a dense weight."""
    rows = weight.data.index_select(0, ids_T.long())
    return scale * (rows if weight.layout is WeightLayout.DENSE else dequantize_rows(rows, weight.format))
