"""Native kernels at their raw interface: guards around every output stay whole, guards around inputs are not seen.

Buffers lie inside larger ones filled with NaN: a value read from outside would show in the
result, a value written outside would replace a guard.
"""

import pytest
import torch

from octavo import ops
from octavo.ops import WeightFormat
from octavo.ops.dispatch import NATIVE

if NATIVE is None:
    pytest.skip("octavo._native is not built", allow_module_level=True)
from octavo import _native

GUARD = 64


class Guarded:
    """A tensor between two guards of NaN (of 0xA5 for bytes)."""

    def __init__(self, content: torch.Tensor) -> None:
        fill = 0xA5 if content.dtype == torch.uint8 else torch.nan
        self.whole = torch.full((content.numel() + 2 * GUARD,), fill, dtype=content.dtype)
        self.tensor = self.whole[GUARD : GUARD + content.numel()].view(content.shape)
        self.tensor.copy_(content)
        self.address = self.tensor.data_ptr()

    def assert_whole(self) -> None:
        for guard in (self.whole[:GUARD], self.whole[self.whole.numel() - GUARD :]):
            assert bool((guard == 0xA5).all() if guard.dtype == torch.uint8 else guard.isnan().all())


def randn(*shape: int) -> Guarded:
    return Guarded(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))


def empty(*shape: int) -> Guarded:
    return Guarded(torch.full(shape, torch.nan))


@pytest.mark.parametrize("weight_format", list(WeightFormat))
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 33), (13, 45), (241, 31)])
def test_packing_linear_embedding(weight_format, rows, n, isa, stored_weight):
    k = 256
    stored = stored_weight(weight_format, n, k)
    code = _native.Format[weight_format.value]
    source = Guarded(stored.data.view(torch.uint8).flatten())
    packed = Guarded(torch.zeros(_native.packed_bytes(code, n, k), dtype=torch.uint8))
    _native.pack(code, source.address, weight_format.row_bytes(k), n, k, packed.address)
    packed.assert_whole()
    x, bias, y = randn(rows, k), randn(n), empty(rows, n)
    _native.linear(x.address, k, packed.address, code, bias.address, y.address, rows, k, n)
    y.assert_whole()
    want = ops.linear(x.tensor.clone(), ops.pack_weight(stored, device="cpu"), bias.tensor.clone())
    assert torch.equal(y.tensor, want)
    w = empty(n, k)
    _native.embedding(0, packed.address, code, w.address, n, k, n)
    w.assert_whole()
    assert torch.equal(w.tensor, ops.dequantize(stored))


@pytest.mark.parametrize("weight_format", [f for f in WeightFormat if f.is_block_format])
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 33), (13, 45), (40, 31), (257, 31)])
def test_quantize_and_linear_int8(weight_format, rows, n, isa, stored_weight):
    k = 256
    stored = stored_weight(weight_format, n, k)
    packed = Guarded(ops.pack_weight(stored, device="cpu").data)
    x, bias = randn(rows, k), randn(n)
    q, sums = (Guarded(torch.zeros(size, dtype=torch.uint8)) for size in (rows * k, rows * k // 16 * 4))
    scales = empty(k // 32, rows)
    _native.quantize(x.address, k, q.address, scales.address, sums.address, rows, k)
    for output in (q, scales, sums):
        output.assert_whole()
    assert scales.tensor.isfinite().all()
    want = ops.linear_int8(
        ops.quantize_activations(x.tensor.clone()), ops.pack_weight(stored, device="cpu"), bias.tensor.clone()
    )
    for path in _native.int8_paths():
        _native.force_int8_path(path)
        y = empty(rows, n)
        _native.linear_int8(
            q.address, scales.address, sums.address, packed.address, _native.Format[weight_format.value],
            bias.address, y.address, rows, k, n,
        )  # fmt: skip
        y.assert_whole()
        assert torch.equal(y.tensor, want)


@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 15, 16, 17, 33, 100])
def test_row_kernels(width, isa):
    x, weight, bias, residual = randn(3, width), randn(width), randn(width), randn(3, width)
    for _ in range(2):
        y, total = empty(3, width), empty(3, width)
        _native.rms_norm(x.address, width, residual.address, total.address, weight.address, y.address, 3, width, 1e-5)
        assert y.tensor.isfinite().all()
        assert total.tensor.isfinite().all()
        y.assert_whole()
        total.assert_whole()
    y = empty(3, width)
    _native.layer_norm(x.address, width, weight.address, bias.address, y.address, 3, width, 1e-5)
    assert y.tensor.isfinite().all()
    y.assert_whole()
    for activation in _native.GatedActivation:
        gates, y = randn(3, 2 * width), empty(3, width)
        _native.gated(gates.address, 2 * width, y.address, 3, width, activation)
        assert y.tensor.isfinite().all()
        y.assert_whole()
    heads, cos_sin = randn(3, 2, 2 * width), randn(4, 2 * width)
    positions = torch.tensor([0, 3, 1])
    _native.rotary(heads.address, 4 * width, 2 * width, cos_sin.address, positions.data_ptr(), 3, 2, 2 * width)
    assert heads.tensor.isfinite().all()
    heads.assert_whole()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1, 7, 16, 33])
def test_cache_kernels(dtype, size, isa):
    case_type = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    cache_type = _native.CacheType[case_type]
    num_tokens, block_size, kv_heads, heads = 21, 5, 2, 6
    keys, values, q = randn(num_tokens, kv_heads, size), randn(num_tokens, kv_heads, size + 2), randn(3, heads, size)
    k_cache = Guarded(torch.full((5, block_size, kv_heads, size), torch.nan, dtype=dtype))
    v_cache = Guarded(torch.full((5, block_size, kv_heads, size + 2), torch.nan, dtype=dtype))
    slots = torch.arange(num_tokens) + 4  # the last token in the last slot
    for x, cache, d in ((keys, k_cache, size), (values, v_cache, size + 2)):
        strides = cache.tensor.stride()[:3]
        _native.store(
            x.address, kv_heads * d, d, cache.address, *strides, cache_type, slots.data_ptr(), num_tokens, kv_heads,
            d, block_size,
        )  # fmt: skip
        cache.assert_whole()
        assert torch.equal(cache.tensor.view(25, kv_heads, d)[4:], x.tensor.to(dtype))
        assert cache.tensor.view(25, kv_heads, d)[:4].isnan().all()
    # Read from the cache's start: position p at slot p + 5, so that block 0 is never read.
    starts, lens = torch.tensor([0, 3], dtype=torch.int32), torch.tensor([num_tokens - 1], dtype=torch.int32)
    table = torch.tensor([1, 2, 3, 4], dtype=torch.int32)
    for path in _native.attention_paths():
        _native.force_attention_path(path)
        for is_causal in (True, False):
            o = empty(3, heads, size + 2)
            _native.attention(
                q.address, heads * size, size, k_cache.address, *k_cache.tensor.stride()[:3], v_cache.address,
                *v_cache.tensor.stride()[:3], cache_type, o.address, starts.data_ptr(), lens.data_ptr(),
                table.data_ptr(), 1, 4, block_size, heads, kv_heads, size, size + 2, 0.3, 0.0, 0, 0, is_causal,
            )  # fmt: skip
            o.assert_whole()
            assert o.tensor.isfinite().all()
    _native.force_attention_path("")
