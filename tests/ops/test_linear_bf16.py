"""Activations in bf16: at least torch's accuracy in bf16, and a row's bits are its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.tensors import randn, same_bits

from octavo import ops
from octavo.ops import OpArgumentError, WeightFormat, WeightLayout, reference

FORMATS = list(WeightFormat)


def rounded_linear(x_TK: torch.Tensor, weight: ops.PackedWeight, *args, **kwargs) -> torch.Tensor:
    return ops.linear_bf16(ops.round_bf16(x_TK), weight, *args, **kwargs)


@pytest.mark.parametrize(
    "shape", [(0, 5), (0, 64), (1, 1), (3, 17), (1, 96), (15, 32), (16, 64), (17, 96), (33, 576), (600, 64)]
)
def test_rounding_is_to_nearest_even(shape, backend):
    x = randn(*shape)
    x.view(-1)[:1] = torch.nan
    got = reference.bf16_rows(ops.round_bf16(x))
    assert got.dtype == torch.bfloat16
    assert torch.equal(got.nan_to_num(7), x.bfloat16().nan_to_num(7))
    part = reference.bf16_rows(ops.round_bf16(x[:, 1:]))
    assert torch.equal(part.nan_to_num(7), x[:, 1:].bfloat16().nan_to_num(7))


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("num_tokens", [0, 1, 15, 16, 17, 33, 530])
def test_it_is_accurate(weight_format, num_tokens, isa, stored_weight, assert_accurate):
    stored = stored_weight(weight_format, 45, 1280)
    w_NK, weight = reference.dequantize(stored), ops.pack_weight(stored, device="cpu")
    x_TK, bias_N = randn(num_tokens, 1280).bfloat16().float(), torch.linspace(-1, 1, 45)
    got = rounded_linear(x_TK, weight, bias_N)
    assert got.dtype == torch.float32
    in_bf16 = (x_TK.bfloat16() @ w_NK.bfloat16().T).float() + bias_N
    assert_accurate(got, in_bf16, x_TK.double() @ w_NK.double().T + bias_N.double())
    wide = torch.full((num_tokens, 60), 7.0)
    assert same_bits(rounded_linear(x_TK, weight, bias_N, out=wide[:, 5:50]), got)
    assert same_bits(wide[:, 5:50].contiguous(), got)
    assert (wide[:, :5] == 7).all()
    assert (wide[:, 50:] == 7).all()
    whole = torch.full((num_tokens, 45), 7.0)
    assert same_bits(rounded_linear(x_TK, weight, out=whole) + bias_N, got)


@settings(max_examples=40, deadline=None)
@given(
    weight_format=st.sampled_from([WeightFormat.F32, WeightFormat.F16, WeightFormat.BF16]),
    num_tokens=st.integers(0, 40),
    n=st.integers(1, 70),
    k=st.one_of(st.integers(0, 600), st.integers(0, 80).map(lambda tiles: 32 * tiles)),
)
def test_any_size_of_a_float_weight(weight_format, num_tokens, n, k, stored_weight, assert_accurate):
    """Accurate over forty rows, so that the bound is not one lucky product of torch's; fewer have the bits of those."""
    stored = stored_weight(weight_format, n, k)
    w_NK, weight, x_TK = reference.dequantize(stored), ops.pack_weight(stored, device="cpu"), randn(40, k, seed=k)
    x_TK = x_TK.bfloat16().float()
    got = rounded_linear(x_TK, weight)
    assert_accurate(got, (x_TK.bfloat16() @ w_NK.bfloat16().T).float(), x_TK.double() @ w_NK.double().T)
    assert same_bits(rounded_linear(x_TK[:num_tokens], weight), got[:num_tokens])


@pytest.mark.parametrize("num_tokens", [1, 33, 600])
@pytest.mark.parametrize("weight_format", [WeightFormat.BF16, WeightFormat.I8])
def test_a_weight_without_columns_gives_the_bias(num_tokens, weight_format, stored_weight):
    weight, bias_N = ops.pack_weight(stored_weight(weight_format, 40, 0), device="cpu"), torch.linspace(-1, 1, 40)
    assert torch.equal(rounded_linear(torch.zeros(num_tokens, 0), weight, bias_N), bias_N.expand(num_tokens, 40))


@pytest.mark.skipif(not ops.has_bf16_tiles(), reason="this processor has no AMX")
@pytest.mark.parametrize("shape", [(40, 0), (1, 32), (16, 64), (45, 96), (83, 1280), (96, 640)])
def test_a_weight_packed_as_tiles_gives_the_same_bits(shape, stored_weight, threads):
    stored = stored_weight(WeightFormat.BF16, *shape)
    panels = ops.pack_weight(stored, device="cpu")
    tiles = ops.pack_weight(stored, device="cpu", dtype=torch.bfloat16)
    assert (panels.layout, tiles.layout) == (WeightLayout.PANELS, WeightLayout.TILES)
    assert torch.equal(ops.dequantize(tiles), stored.data.float())
    ids_T = torch.arange(shape[0]).flip(0)
    assert same_bits(ops.embedding(ids_T, tiles, 0.3), ops.embedding(ids_T, panels, 0.3))
    bias_N = torch.linspace(-1, 1, shape[0])
    for size in (0, 1, 2, 16, 17, 32, 33, 64, 65, 530):
        x_TK = randn(size, shape[1])
        assert same_bits(ops.linear(x_TK, tiles, bias_N), ops.linear(x_TK, panels, bias_N))
        for num_threads in (1, 2, 7):
            threads(num_threads)
            assert same_bits(rounded_linear(x_TK, tiles, bias_N), rounded_linear(x_TK, panels, bias_N))


def test_only_bf16_of_whole_tiles_lies_as_tiles(stored_weight):
    for weight_format, k in (
        (WeightFormat.BF16, 48),
        (WeightFormat.F16, 64),
        (WeightFormat.F32, 64),
        (WeightFormat.Q4_0, 64),
    ):
        packed = ops.pack_weight(stored_weight(weight_format, 32, k), device="cpu", dtype=torch.bfloat16)
        assert packed.layout is not WeightLayout.TILES


@settings(max_examples=60, deadline=None)
@given(
    weight_format=st.sampled_from([WeightFormat.Q4_0, WeightFormat.BF16, WeightFormat.I8]),
    num_tokens=st.integers(1, 600),
    n=st.integers(1, 200),
    groups=st.integers(1, 40),
    num_threads=st.sampled_from([1, 2, 3]),
    dtype=st.sampled_from([None, torch.bfloat16]),
)
def test_any_rows_have_the_bits_of_one(weight_format, num_tokens, n, groups, num_threads, dtype, stored_weight):
    weight = ops.pack_weight(stored_weight(weight_format, n, 32 * groups), device="cpu", dtype=dtype)
    x_TK, before = randn(num_tokens, 32 * groups, seed=groups), ops.num_threads()
    ops.set_num_threads(num_threads)
    try:
        whole = rounded_linear(x_TK, weight)
        for row in {0, num_tokens // 3, num_tokens // 2, num_tokens - 1}:
            assert same_bits(rounded_linear(x_TK[row : row + 1], weight), whole[row : row + 1])
    finally:
        ops.set_num_threads(before)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_a_row_does_not_know_its_batch(weight_format, isa, stored_weight, threads):
    weight = ops.pack_weight(stored_weight(weight_format, 83, 1280), device="cpu")
    x_TK = randn(600, 1280)
    threads(2)
    whole = rounded_linear(x_TK, weight)
    for size in (*range(1, 20), 31, 32, 33, 47, 48, 49, 511, 512, 513):
        assert same_bits(rounded_linear(x_TK[:size], weight), whole[:size])
    assert same_bits(rounded_linear(x_TK[500:503], weight), whole[500:503])
    for num_threads in (1, 3, 7):
        threads(num_threads)
        assert same_bits(rounded_linear(x_TK, weight), whole)
        assert same_bits(rounded_linear(x_TK[:5], weight), whole[:5])


def test_what_is_not_finite_stays_in_its_row(isa, stored_weight):
    weight = ops.pack_weight(stored_weight(WeightFormat.Q4_1, 40, 64), device="cpu")
    x_TK = randn(20, 64)
    want = rounded_linear(x_TK, weight)
    x_TK[3, 5], x_TK[17, 63] = torch.nan, torch.inf
    got = rounded_linear(x_TK, weight)
    assert not got[[3, 17]].isfinite().any()
    others = [row for row in range(20) if row not in (3, 17)]
    assert same_bits(got[others], want[others])


def test_wrong_arguments(stored_weight):
    weight = ops.pack_weight(stored_weight(WeightFormat.BF16, 40, 64), device="cpu")
    narrow = ops.pack_weight(stored_weight(WeightFormat.F16, 40, 48), device="cpu")
    x = ops.round_bf16(torch.zeros(2, 64))
    for call in (
        lambda: ops.linear_bf16(ops.Bf16Activations(torch.zeros(2, 64), is_paired=False), weight),
        lambda: ops.linear_bf16(ops.round_bf16(torch.zeros(2, 63)), weight),
        lambda: ops.linear_bf16(ops.Bf16Activations(x.data_TK[:1].expand(9, 64), is_paired=True), weight),
        lambda: ops.linear_bf16(ops.Bf16Activations(torch.zeros(2, 48).bfloat16(), is_paired=True), narrow),
        lambda: ops.linear_bf16(x, weight, torch.zeros(39)),
        lambda: ops.linear_bf16(x, weight, out=torch.zeros(2, 39)),
        lambda: ops.round_bf16(torch.zeros(3)),
    ):
        with pytest.raises(OpArgumentError):
            call()


@pytest.mark.parametrize("features", [1, 45])
def test_an_output_by_columns_is_filled_as_any_other(features, backend, stored_weight):
    x_TK = randn(5, 256)
    for weight_format, narrow, linear in (
        (WeightFormat.BF16, ops.round_bf16, ops.linear_bf16),
        (WeightFormat.Q4_0, ops.quantize_activations, ops.linear_int8),
        (WeightFormat.I8, ops.quantize_rows, ops.linear_i8),
        (WeightFormat.F16, lambda x: x, ops.linear),
    ):
        weight = ops.pack_weight(stored_weight(weight_format, features, 256), device="cpu")
        by_columns = torch.zeros(features, 5).T
        assert linear(narrow(x_TK), weight, out=by_columns) is by_columns
        assert same_bits(by_columns.contiguous(), linear(narrow(x_TK), weight))
