import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.tensors import randn, same_bits

from octavo import ops
from octavo.ops import OpArgumentError, PackedWeight, StoredWeight, WeightFormat, WeightLayout, reference

FORMATS = list(WeightFormat)
BLOCK_FORMATS = [f for f in FORMATS if f.is_block_format]
CPU = torch.device("cpu")


def pack(weight: StoredWeight, backend: str) -> PackedWeight:
    if backend == "reference":
        return reference.pack_weight(weight, CPU, None)
    return ops.pack_weight(weight, device="cpu")


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_reference_dequantises_as_gguf_does(weight_format, stored_weight):
    weight = stored_weight(weight_format, 9, 512)
    quantization = gguf.GGMLQuantizationType[weight_format.value]
    want = gguf.quants.dequantize(weight.data.numpy(), quantization)
    got = reference.dequantize(weight).numpy()
    assert np.array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("n", [1, 31, 32, 33, 77])
def test_packing_loses_nothing(weight_format, n, backend, stored_weight):
    weight = stored_weight(weight_format, n, 512)
    packed = pack(weight, backend)
    assert torch.equal(ops.dequantize(packed), reference.dequantize(weight))
    assert packed.num_bytes <= 1.03 * weight.format.row_bytes(512) * ((n + 31) // 32 * 32)


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("num_tokens", [0, 1, 5, 13, 241])
def test_linear_is_accurate(weight_format, num_tokens, backend, stored_weight, assert_accurate):
    weight = stored_weight(weight_format, 45, 768)
    w_NK = reference.dequantize(weight)
    x_TK = randn(num_tokens, 768)
    bias_N = torch.linspace(-1, 1, 45)
    got = ops.linear(x_TK, pack(weight, backend), bias_N)
    exact = x_TK.double() @ w_NK.double().T + bias_N.double()
    assert_accurate(got, x_TK @ w_NK.T + bias_N, exact)
    assert same_bits(ops.linear(x_TK, pack(weight, backend)) + bias_N, got)


@settings(max_examples=40, deadline=None)
@given(
    weight_format=st.sampled_from([WeightFormat.F32, WeightFormat.F16, WeightFormat.BF16]),
    num_tokens=st.integers(0, 30),
    n=st.integers(1, 70),
    k=st.integers(0, 600),
)
def test_any_size_of_a_float_weight(weight_format, num_tokens, n, k, stored_weight, assert_accurate):
    weight = stored_weight(weight_format, n, k)
    x_TK = randn(num_tokens, k, seed=k)
    w_NK = reference.dequantize(weight)
    got = ops.linear(x_TK, ops.pack_weight(weight, device="cpu"))
    exact = x_TK.double() @ w_NK.double().T
    # Of a single output torch's own error may be next to nothing by luck: a rounding of Σ |x·w| at least is allowed.
    rounding = 2**-24 * (x_TK.double().abs() @ w_NK.double().abs().T)
    error = torch.maximum((x_TK @ w_NK.T - exact).abs(), rounding)
    assert_accurate(got, exact + error, exact)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_a_row_does_not_know_its_batch(weight_format, backend, stored_weight, threads):
    weight = pack(stored_weight(weight_format, 83, 768), backend)
    x_TK = randn(257, 768, seed=2)
    threads(2)
    whole = ops.linear(x_TK, weight)
    sizes = (1, 2, 7, 12, 16, 250) if backend == "reference" else (*range(1, 26), 240, 256)
    for size in sizes:
        assert same_bits(ops.linear(x_TK[:size], weight), whole[:size])
    assert same_bits(ops.linear(x_TK[100:103], weight), whole[100:103])
    threads(1)
    assert same_bits(ops.linear(x_TK, weight), whole)


def test_linear_reads_strided_rows(backend, stored_weight):
    weight = pack(stored_weight(WeightFormat.Q4_1, 40, 64), backend)
    wide = randn(6, 200, seed=3)
    want = ops.linear(wide[:, 5:69].clone(), weight)
    assert same_bits(ops.linear(wide[:, 5:69], weight), want)
    assert same_bits(ops.linear(wide[:, 5:69].T.contiguous().T, weight), want)
    assert same_bits(ops.linear(wide[:1, 5:69].expand(6, 64), weight), want[:1].expand(6, 40).contiguous())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_activations_round_once(dtype, backend, stored_weight):
    weight = pack(stored_weight(WeightFormat.Q8_0, 40, 64), backend)
    x_TK = randn(3, 64, seed=3).to(dtype)
    assert torch.equal(ops.linear(x_TK, weight), ops.linear(x_TK.float(), weight).to(dtype))


@pytest.mark.parametrize("weight_format", FORMATS)
def test_embedding_is_rows(weight_format, backend, stored_weight):
    weight = stored_weight(weight_format, 70, 512)
    ids_T = torch.tensor([0, 69, 31, 32, 69], dtype=torch.int32)
    want = reference.dequantize(weight)[ids_T.long()]
    packed = pack(weight, backend)
    assert torch.equal(ops.embedding(ids_T, packed), want)
    assert torch.equal(ops.embedding(ids_T.long()[::2], packed), want[::2])
    assert ops.embedding(ids_T[:0], packed).shape == (0, 512)


def test_a_gathered_or_sliced_stored_weight_packs(stored_weight):
    weight = stored_weight(WeightFormat.Q5_K, 20, 256)
    odd = StoredWeight(weight.data[1::2], weight.format, 10, 256)
    assert torch.equal(ops.dequantize(ops.pack_weight(odd, device="cpu")), reference.dequantize(weight)[1::2])


def test_off_the_cpu_weights_are_expanded(stored_weight):
    packed = ops.pack_weight(stored_weight(WeightFormat.F32, 3, 5), device="meta", dtype=torch.bfloat16)
    assert packed.layout is WeightLayout.DENSE
    assert packed.data.dtype == torch.bfloat16
    assert packed.data.shape == (3, 5)


def test_arguments_are_checked(stored_weight):
    weight = ops.pack_weight(stored_weight(WeightFormat.F32, 4, 6), device="cpu")
    x_TK = torch.zeros(2, 6)
    for call in (
        lambda: ops.linear(torch.zeros(2, 7), weight),
        lambda: ops.linear(torch.zeros(6), weight),
        lambda: ops.linear(x_TK.int(), weight),
        lambda: ops.linear(x_TK.to("meta"), weight),
        lambda: ops.linear(x_TK, weight, torch.zeros(5)),
        lambda: ops.embedding(torch.tensor([4]), weight),
        lambda: ops.embedding(torch.tensor([-1]), weight),
        lambda: ops.embedding(torch.tensor([1.0]), weight),
        lambda: ops.pack_weight(StoredWeight(torch.zeros(4, 6), WeightFormat.F32, 4, 7), device="cpu"),
        lambda: ops.pack_weight(StoredWeight(torch.zeros(4, 6), WeightFormat.F16, 4, 6), device="cpu"),
        lambda: ops.pack_weight(StoredWeight(torch.zeros(4, 18), WeightFormat.Q4_0, 4, 33), device="cpu"),
        lambda: ops.pack_weight(StoredWeight(x_TK, WeightFormat.F32, 2, 6), device="cpu", dtype=torch.int8),
    ):
        with pytest.raises(OpArgumentError):
            call()


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("sizes", [(32, 64, 7), (64,), (33, 40), (32, 31, 1)])
def test_stacked_weights_are_packed_as_one(weight_format, sizes, stored_weight):
    whole = stored_weight(weight_format, sum(sizes), 256)
    starts = np.cumsum((0, *sizes))
    parts = [
        StoredWeight(whole.data[start : start + size], weight_format, size, 256)
        for start, size in zip(starts, sizes, strict=False)
    ]
    packed = ops.pack_stacked(parts, device="cpu")
    assert torch.equal(packed.data, ops.pack_weight(whole, device="cpu").data)
    assert (packed.out_features, packed.in_features) == (sum(sizes), 256)


def test_weights_of_two_kinds_are_not_stacked(stored_weight):
    for other in (stored_weight(WeightFormat.Q4_1, 32, 256), stored_weight(WeightFormat.Q4_0, 32, 512)):
        with pytest.raises(OpArgumentError):
            ops.pack_stacked([stored_weight(WeightFormat.Q4_0, 32, 256), other], device="cpu")


def test_nothing_to_stack_and_what_is_no_float_dtype_are_refused(stored_weight):
    weight = stored_weight(WeightFormat.F32, 4, 32)
    for call in (
        lambda: ops.pack_stacked([], device="cpu"),
        lambda: ops.pack_stacked([weight], device="cpu", dtype=torch.int8),
        lambda: ops.pack_weight(weight, device="cpu", dtype=torch.int8),
    ):
        with pytest.raises(OpArgumentError):
            call()
