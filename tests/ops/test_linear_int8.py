"""Activations as bytes: every instruction set and every path on it gives the reference's bits."""

import ctypes
import random
import struct

import pytest
import torch
from ops.tensors import randn, same_bits

from octavo import ops
from octavo.ops import OpArgumentError, QuantizedActivations, StoredWeight, WeightFormat, reference
from octavo.ops.dispatch import NATIVE

BLOCK_FORMATS = [f for f in WeightFormat if f.is_block_format]
CPU = torch.device("cpu")


def of_rows(x: QuantizedActivations, rows: slice) -> QuantizedActivations:
    return QuantizedActivations(
        x.q_TK[rows].contiguous(), x.scales_GT[:, rows].contiguous(), x.sums_HT[:, rows].contiguous()
    )


def dequantized(x: QuantizedActivations) -> torch.Tensor:
    return x.q_TK.double() * x.scales_GT.T.double().repeat_interleave(32, dim=1)


def odd_rows() -> torch.Tensor:
    """Rows of 96 with zeros, ties, very large and very small numbers, and what is no number."""
    rows = randn(12, 96)
    rows[0] = 0
    rows[1, :32] = torch.arange(32) + 0.5
    rows[1, 0] = 127
    rows[2] *= 1e38
    rows[3] *= 1e-38
    rows[4] *= 2.0**-100
    rows[5, 40] = torch.inf
    rows[6, 7] = -torch.inf
    rows[7, 95] = torch.nan
    rows[8] = -3e38
    rows[9, 32:64] = 2.0**-100
    rows[10, 32:64] = -(2.0**-101)
    return rows


def test_quantised_activations_are_the_nearest_bytes():
    x = randn(7, 96)
    quantized = reference.quantize_activations(x)
    groups = x.view(7, 3, 32)
    assert torch.equal(quantized.scales_GT.T, groups.abs().amax(-1) / 127)
    assert quantized.q_TK.view(7, 3, 32).abs().amax(-1).eq(127).all()
    error = (dequantized(quantized) - x).view(7, 3, 32).abs().amax(-1)
    assert bool((error <= 0.5001 * quantized.scales_GT.T).all())
    assert torch.equal(quantized.sums_HT.T, quantized.q_TK.view(7, 6, 16).sum(-1, dtype=torch.int32))


def test_odd_activations():
    quantized = reference.quantize_activations(odd_rows())
    bad = quantized.scales_GT.T.isnan()
    assert bad.nonzero().tolist() == [[5, 1], [6, 0], [7, 2]]
    assert quantized.scales_GT[:, 0].eq(0).all()
    assert quantized.q_TK[1, :8].tolist() == [127, 2, 2, 4, 4, 6, 6, 8]
    assert quantized.q_TK[9, 32:64].eq(127).all()
    assert quantized.q_TK[10, 32:64].eq(0).all()
    assert dequantized(quantized)[8].float().allclose(torch.full((96,), -3e38))


@pytest.mark.parametrize("shape", [(0, 64), (1, 32), (3, 96), (70, 288), (2, 0)])
def test_quantisation_gives_the_reference_s_bits(shape, isa):
    for x in (randn(*shape), randn(*shape).bfloat16(), randn(shape[0], shape[1] + 5)[:, 5:]):
        want, got = reference.quantize_activations(x), ops.quantize_activations(x)
        assert torch.equal(got.q_TK, want.q_TK)
        assert same_bits(got.scales_GT, want.scales_GT)
        assert torch.equal(got.sums_HT, want.sums_HT)


def test_quantisation_of_odd_rows_gives_the_reference_s_bits(isa):
    want, got = reference.quantize_activations(odd_rows()), ops.quantize_activations(odd_rows())
    assert torch.equal(got.q_TK, want.q_TK)
    assert torch.equal(got.scales_GT.nan_to_num(-1), want.scales_GT.nan_to_num(-1))
    assert torch.equal(got.sums_HT, want.sums_HT)


def test_fused_multiply_add_rounds_once():
    fmaf = ctypes.CDLL(None).fmaf
    fmaf.restype, fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    rng = random.Random(0)

    def number() -> float:
        bits = rng.getrandbits(1) << 31 | rng.randrange(90, 160) << 23 | rng.choice([rng.getrandbits(23), 1 << 22, 1])
        return float(struct.unpack("<f", struct.pack("<I", bits))[0])

    abc = [(number(), number(), number()) for _ in range(20_000)]
    abc += [(1 + 2.0**-12, 1 + 2.0**-12, c) for c in (2.0**24, -(2.0**24), 2.0**-60, -1.0)]
    abc += [(1 + 2.0**-23, 1 - 2.0**-23, -1.0), (0.0, 1.0, -0.0), (2.0**-100, 2.0**-49, 2.0**-126)]
    a, b, c = (torch.tensor(column) for column in zip(*abc, strict=True))
    want = torch.tensor([fmaf(*each) for each in abc])
    assert same_bits(reference.fused_multiply_add(a, b, c), want)
    assert not same_bits((a.double() * b.double() + c.double()).float(), want), "no case needs rounding to odd"


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
@pytest.mark.parametrize("num_tokens", [1, 33])
def test_the_reference_is_accurate(weight_format, num_tokens, stored_weight, assert_accurate):
    """Against exact arithmetic on the same bytes; and bytes cost less than 1% of the output's norm."""
    weight = stored_weight(weight_format, 45, 768)
    w_NK, x_TK = reference.dequantize(weight), randn(num_tokens, 768)
    x = reference.quantize_activations(x_TK)
    got = reference.linear_int8(x, reference.pack_weight(weight, CPU, None), None, None)
    assert_accurate(got, dequantized(x).float() @ w_NK.T, dequantized(x) @ w_NK.double().T)
    exact = x_TK.double() @ w_NK.double().T
    assert (got - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
@pytest.mark.parametrize(
    ("num_tokens", "n", "k"),
    [(0, 5, 256), (1, 1, 256), (1, 77, 768), (2, 32, 256), (15, 31, 512), (16, 33, 256), (17, 64, 768), (33, 45, 768),
     (48, 40, 256), (257, 33, 256), (35, 32, 2304)],
)  # fmt: skip
def test_every_path_gives_the_reference_s_bits(weight_format, num_tokens, n, k, int8_path, stored_weight):
    weight = stored_weight(weight_format, n, k)
    x = reference.quantize_activations(randn(num_tokens, k))
    bias_N = torch.linspace(-1, 1, n)
    want = reference.linear_int8(x, reference.pack_weight(weight, CPU, None), bias_N, None)
    packed = ops.pack_weight(weight, device="cpu")
    assert same_bits(ops.linear_int8(x, packed, bias_N), want)
    assert same_bits(ops.linear_int8(x, packed) + bias_N, want)


@pytest.mark.parametrize("weight_format", [f for f in BLOCK_FORMATS if f.block_size == 32])
def test_one_group(weight_format, int8_path, stored_weight):
    weight = stored_weight(weight_format, 33, 32)
    x = reference.quantize_activations(randn(34, 32))
    want = reference.linear_int8(x, reference.pack_weight(weight, CPU, None), None, None)
    assert same_bits(ops.linear_int8(x, ops.pack_weight(weight, device="cpu")), want)


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_the_largest_sums_do_not_overflow(weight_format, int8_path):
    """All codes at either end, all activations at ±127: 16-bit sums would saturate, fp32 would round."""
    for byte in (0x00, 0x7F, 0x80, 0xFF):
        data = torch.full((32, weight_format.row_bytes(256)), byte, dtype=torch.uint8)
        blocks = data.view(32, -1, weight_format.block_bytes)
        step = 208 if weight_format is WeightFormat.Q6_K else 0
        blocks[..., step : step + 2] = torch.tensor([0x00, 0x3C], dtype=torch.uint8)  # 1 in fp16
        if weight_format in (WeightFormat.Q4_1, WeightFormat.Q5_1, WeightFormat.Q4_K, WeightFormat.Q5_K):
            blocks[..., 2:4] = 0
        weight = StoredWeight(data, weight_format, 32, 256)
        x = ops.quantize_activations(torch.ones(33, 256) * torch.tensor([1.0, -1.0] * 16 + [1.0])[:, None])
        want = reference.linear_int8(x, reference.pack_weight(weight, CPU, None), None, None)
        exact = dequantized(x) @ reference.dequantize(weight).double().T
        assert (want - exact).abs().max() <= 1e-6 * exact.abs().max()
        assert same_bits(ops.linear_int8(x, ops.pack_weight(weight, device="cpu")), want)


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_a_row_does_not_know_its_batch(weight_format, int8_path, stored_weight, threads):
    weight = ops.pack_weight(stored_weight(weight_format, 83, 768), device="cpu")
    x_TK = randn(300, 768, seed=2)
    threads(2)
    x = ops.quantize_activations(x_TK)
    whole = ops.linear_int8(x, weight)
    for size in (*range(1, 36), 255, 256, 257):
        assert same_bits(ops.linear_int8(ops.quantize_activations(x_TK[:size]), weight), whole[:size])
    assert same_bits(ops.linear_int8(of_rows(x, slice(100, 103)), weight), whole[100:103])
    threads(1)
    assert same_bits(ops.linear_int8(ops.quantize_activations(x_TK), weight), whole)


def test_what_is_no_number_shows(int8_path, stored_weight):
    weight = ops.pack_weight(stored_weight(WeightFormat.Q4_1, 40, 96), device="cpu")
    y_TN = ops.linear_int8(ops.quantize_activations(odd_rows()), weight)
    assert y_TN[5:8].isnan().all()
    assert y_TN[[0, 1, 3, 4]].isfinite().all()


def test_arguments_are_checked(stored_weight):
    weight = ops.pack_weight(stored_weight(WeightFormat.Q8_0, 4, 64), device="cpu")
    floats = ops.pack_weight(stored_weight(WeightFormat.F32, 4, 64), device="cpu")
    x = ops.quantize_activations(torch.zeros(2, 64))
    for call in (
        lambda: ops.quantize_activations(torch.zeros(2, 33)),
        lambda: ops.quantize_activations(torch.zeros(64)),
        lambda: ops.quantize_activations(torch.zeros(2, 64).int()),
        lambda: ops.linear_int8(ops.quantize_activations(torch.zeros(2, 32)), weight),
        lambda: ops.linear_int8(QuantizedActivations(x.q_TK, x.scales_GT[:1], x.sums_HT), weight),
        lambda: ops.linear_int8(QuantizedActivations(x.q_TK, x.scales_GT.T, x.sums_HT), weight),
        lambda: ops.linear_int8(QuantizedActivations(x.q_TK, x.scales_GT, x.sums_HT.float()), weight),
        lambda: ops.linear_int8(x, floats),
        lambda: ops.linear_int8(x, weight, torch.zeros(5)),
    ):
        with pytest.raises(OpArgumentError):
            call()


@pytest.mark.skipif(NATIVE is None, reason="octavo._native is not built")
def test_an_unknown_path_is_refused():
    assert NATIVE is not None
    with pytest.raises(ValueError, match="slide rule"):
        NATIVE.force_int8_path("slide rule")
