"""I8 weights: every instruction set and every path on it gives the reference's bits."""

import pytest
import torch
from ops.tensors import randn, same_bits

from octavo import ops
from octavo.ops import OpArgumentError, QuantizedRows, StoredWeight, WeightFormat, reference

CPU = torch.device("cpu")
FLOATS = [WeightFormat.F32, WeightFormat.F16, WeightFormat.BF16]


def i8_weight(n: int, k: int, seed: int = 0) -> StoredWeight:
    return ops.quantize_weight(StoredWeight(randn(n, k, seed=seed), WeightFormat.F32, n, k))


def odd_rows() -> torch.Tensor:
    rows = randn(10, 83)
    rows[0] = 0
    rows[1] = torch.arange(83) + 0.5
    rows[1, 0] = 127
    rows[2] *= 1e38
    rows[3] *= 1e-38
    rows[4, 82] = torch.inf
    rows[5, 7] = -torch.inf
    rows[6, 64] = torch.nan
    rows[7] = -3e38
    rows[8] = 2.0**-100
    rows[9] = -(2.0**-101)
    return rows


@pytest.mark.parametrize("weight_format", FLOATS)
def test_a_weight_s_rows_become_the_nearest_bytes(weight_format, stored_weight):
    weight = stored_weight(weight_format, 9, 70)
    packed = ops.quantize_weight(weight)
    w_NK, got_NK = reference.dequantize(weight), reference.dequantize(packed)
    steps_N1 = w_NK.abs().amax(-1, keepdim=True) / 127
    assert bool(((got_NK - w_NK).abs() <= 0.5001 * steps_N1).all())
    assert packed.data.shape == (9, 74)
    assert packed.num_bytes == 9 * 74


@pytest.mark.parametrize("weight_format", FLOATS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (9, 70), (1025, 64), (3, 0)])
def test_quantising_a_weight_gives_the_reference_s_bits(weight_format, shape, isa, stored_weight):
    weight = stored_weight(weight_format, *shape)
    assert torch.equal(ops.quantize_weight(weight).data, reference.quantize_weight(weight).data)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 77])
@pytest.mark.parametrize("k", [1, 4, 63, 64, 70, 320])
def test_packing_loses_nothing(n, k, backend):
    weight = i8_weight(n, k)
    packed = (
        reference.pack_weight(weight, CPU, None) if backend == "reference" else ops.pack_weight(weight, device="cpu")
    )
    want = reference.dequantize(weight)
    assert torch.equal(ops.dequantize(packed), want)
    ids_T = torch.tensor([n - 1, 0, n // 2])
    assert torch.equal(ops.embedding(ids_T, packed), want[ids_T])


@pytest.mark.parametrize("shape", [(0, 64), (1, 1), (1, 32), (3, 96), (70, 290), (2, 0), (5, 576)])
def test_quantisation_gives_the_reference_s_bits(shape, isa):
    for x in (randn(*shape), randn(*shape).bfloat16(), randn(shape[0], shape[1] + 5)[:, 5:]):
        want, got = reference.quantize_rows(x), ops.quantize_rows(x)
        assert torch.equal(got.q_TP, want.q_TP)
        assert same_bits(got.scales_T, want.scales_T)
        assert torch.equal(got.sums_T, want.sums_T)


def test_quantisation_of_odd_rows_gives_the_reference_s_bits(isa):
    want, got = reference.quantize_rows(odd_rows()), ops.quantize_rows(odd_rows())
    assert want.scales_T.isnan().nonzero().flatten().tolist() == [4, 5, 6]
    assert want.q_TP[8, :83].eq(127).all()
    assert want.q_TP[9].eq(0).all()
    assert torch.equal(got.q_TP, want.q_TP)
    assert torch.equal(got.scales_T.nan_to_num(-1), want.scales_T.nan_to_num(-1))
    assert torch.equal(got.sums_T, want.sums_T)


def test_the_reference_is_accurate():
    """Bytes on both sides cost less than 2% of the output's norm."""
    x_TK, weight = randn(33, 768), StoredWeight(randn(45, 768, seed=3), WeightFormat.F32, 45, 768)
    packed = reference.pack_weight(ops.quantize_weight(weight), CPU, None)
    x = reference.quantize_rows(x_TK)
    got = reference.linear_i8(x, packed, None, None)
    exact_of_bytes = (x.q_TP.double() * x.scales_T[:, None].double()) @ reference.dequantize(packed).double().T
    assert (got - exact_of_bytes).abs().max() < 1e-6 * exact_of_bytes.abs().max()
    exact = x_TK.double() @ weight.data.double().T
    assert (got - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    ("num_tokens", "n", "k"),
    [(0, 5, 64), (1, 1, 1), (1, 77, 576), (2, 32, 256), (7, 31, 65), (8, 33, 130), (9, 64, 768), (15, 45, 64),
     (16, 40, 256), (17, 33, 256), (31, 33, 4), (32, 33, 64), (33, 33, 127), (257, 70, 128), (300, 32, 2304)],
)  # fmt: skip
def test_every_path_gives_the_reference_s_bits(num_tokens, n, k, int8_path):
    weight, bias_N = i8_weight(n, k), torch.linspace(-1, 1, n)
    x = reference.quantize_rows(randn(num_tokens, k))
    want = reference.linear_i8(x, reference.pack_weight(weight, CPU, None), bias_N, None)
    packed = ops.pack_weight(weight, device="cpu")
    assert same_bits(ops.linear_i8(x, packed, bias_N), want)
    assert same_bits(ops.linear_i8(x, packed) + bias_N, want)
    wide = torch.full((num_tokens, n + 3), 7.0)
    assert same_bits(ops.linear_i8(x, packed, bias_N, out=wide[:, 1 : n + 1]), want)
    assert wide[:, [0, n + 1, n + 2]].eq(7).all()


def test_the_largest_sums_do_not_overflow(int8_path):
    """All bytes at ±127, over the longest row that the padding of a test allows."""
    for sign in (1.0, -1.0):
        weight = ops.quantize_weight(StoredWeight(torch.full((33, 8192), sign), WeightFormat.F32, 33, 8192))
        x = ops.quantize_rows(torch.ones(17, 8192))
        assert ops.linear_i8(x, ops.pack_weight(weight, device="cpu")).allclose(torch.full((17, 33), sign * 8192))


def test_a_row_does_not_know_its_batch(int8_path, threads):
    weight, x_TK = ops.pack_weight(i8_weight(83, 576), device="cpu"), randn(300, 576, seed=2)
    threads(2)
    whole = ops.linear_i8(ops.quantize_rows(x_TK), weight)
    for size in (*range(1, 36), 255, 256, 257):
        assert same_bits(ops.linear_i8(ops.quantize_rows(x_TK[:size]), weight), whole[:size])
    assert same_bits(ops.linear_i8(ops.quantize_rows(x_TK[100:103]), weight), whole[100:103])
    threads(1)
    assert same_bits(ops.linear_i8(ops.quantize_rows(x_TK), weight), whole)


def test_what_is_no_number_shows(int8_path):
    y_TN = ops.linear_i8(ops.quantize_rows(odd_rows()), ops.pack_weight(i8_weight(40, 83), device="cpu"))
    assert y_TN[4:7].isnan().all()
    assert y_TN[[0, 1, 3, 8, 9]].isfinite().all()


def test_arguments_are_checked(stored_weight):
    weight = ops.pack_weight(i8_weight(4, 70), device="cpu")
    x = ops.quantize_rows(torch.zeros(2, 70))
    for call in (
        lambda: ops.quantize_rows(torch.zeros(64)),
        lambda: ops.quantize_weight(i8_weight(4, 70)),
        lambda: ops.quantize_weight(stored_weight(WeightFormat.Q8_0, 4, 64)),
        lambda: ops.quantize_weight(StoredWeight(torch.zeros(1, 65_537), WeightFormat.F32, 1, 65_537)),
        lambda: ops.linear_i8(ops.quantize_rows(torch.zeros(2, 64)), weight),
        lambda: ops.linear_i8(QuantizedRows(x.q_TP, x.scales_T[:1], x.sums_T), weight),
        lambda: ops.linear_i8(QuantizedRows(x.q_TP, x.scales_T, x.sums_T.float()), weight),
        lambda: ops.linear_i8(QuantizedRows(x.q_TP.T.contiguous().T, x.scales_T, x.sums_T), weight),
        lambda: ops.linear_i8(x, ops.pack_weight(stored_weight(WeightFormat.F32, 4, 70), device="cpu")),
        lambda: ops.linear_i8(x, weight, torch.zeros(5)),
        lambda: ops.linear_i8(x, weight, out=torch.zeros(2, 5)),
    ):
        with pytest.raises(OpArgumentError):
            call()
