"""`Int8Weights`: which weights become bytes, and what they are then multiplied with."""

from collections.abc import Callable

import pytest
import torch

from octavo import ops
from octavo.ops import StoredWeight, WeightFormat
from octavo.quantization import ActivationKind, AsStored, Int8Weights, NarrowActivations

CPU = torch.device("cpu")
AS_STORED = AsStored(CPU, torch.float32)


def stored(weight_format: WeightFormat, n: int, k: int) -> StoredWeight:
    w_NK = torch.randn(n, k, generator=torch.Generator().manual_seed(n))
    if weight_format is WeightFormat.Q8_0:
        blocks = torch.zeros(n, k // 32, 34, dtype=torch.uint8)
        blocks[..., :2] = torch.tensor([0.01]).half().view(torch.uint8)
        blocks[..., 2:] = (w_NK * 30).to(torch.int8).view(torch.uint8).view(n, k // 32, 32)
        return StoredWeight(blocks.view(n, -1), weight_format, n, k)
    dtype = {WeightFormat.F32: torch.float32, WeightFormat.F16: torch.float16, WeightFormat.BF16: torch.bfloat16}
    return StoredWeight(w_NK.to(dtype[weight_format]), weight_format, n, k)


def test_floats_become_bytes_and_the_rest_stays() -> None:
    formats = [WeightFormat.F32, WeightFormat.BF16, WeightFormat.Q8_0, WeightFormat.F16]
    loaded = Int8Weights(AS_STORED).load([stored(each, 40, 96) for each in formats])
    assert [(part.format, part.out_features) for part in loaded.parts] == [
        (WeightFormat.I8, 80),
        (WeightFormat.Q8_0, 40),
        (WeightFormat.I8, 40),
    ]


@pytest.mark.parametrize("formats", [["F32"], ["BF16", "F16"], ["Q8_0"], ["F32", "Q8_0", "F16"]])
def test_each_part_takes_bytes_of_its_kind(formats: list[str]) -> None:
    method = Int8Weights(NarrowActivations(AS_STORED, ActivationKind.INT8))
    weight = method.load([stored(WeightFormat(each), 40, 96) for each in formats])
    x_TK = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    bias_N = torch.linspace(-1, 1, weight.out_features)
    groups, rows = ops.quantize_activations(x_TK), ops.quantize_rows(x_TK)
    apply: dict[WeightFormat, Callable[[ops.PackedWeight], torch.Tensor]] = {
        WeightFormat.I8: lambda part: ops.linear_i8(rows, part),
        WeightFormat.Q8_0: lambda part: ops.linear_int8(groups, part),
    }
    want = torch.cat([apply[part.format](part) for part in weight.parts], dim=-1) + bias_N
    assert torch.equal(method.apply(x_TK, weight, bias_N), want)


def test_native_activations_stay_as_they_are() -> None:
    method = Int8Weights(AS_STORED)
    weight = method.load([stored(WeightFormat.F32, 40, 96)])
    x_TK = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    want = x_TK @ ops.dequantize(weight.parts[0]).T
    assert torch.allclose(method.apply(x_TK, weight, None), want, atol=1e-4)


def test_a_head_of_blocks_takes_bytes_and_others_what_the_body_takes() -> None:
    if not ops.has_bf16_tiles():
        pytest.skip("this processor has no AMX")
    method = NarrowActivations(AsStored(CPU, torch.bfloat16), ActivationKind.BF16)
    x_TK = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    for body, weight_format in (
        (method, WeightFormat.Q8_0),
        (method, WeightFormat.BF16),
        (Int8Weights(method), WeightFormat.F16),
    ):
        weight = body.load([stored(weight_format, 40, 96)])
        in_bf16 = ops.linear_bf16(ops.round_bf16(x_TK), weight.parts[0])
        assert torch.equal(body.apply(x_TK, weight, None), in_bf16)
        is_quantized = weight_format is WeightFormat.Q8_0
        want = ops.linear_int8(ops.quantize_activations(x_TK), weight.parts[0]) if is_quantized else in_bf16
        assert torch.equal(body.for_head().apply(x_TK, weight, None), want)
    assert AS_STORED.for_head() is AS_STORED
