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
PACKED_FORMATS = list(_native.Format.__members__)


def stored_format(packed_format: str) -> WeightFormat:
    return WeightFormat(packed_format.removesuffix("_TILES"))


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


def view(cache: Guarded) -> _native.CacheView:
    block_stride, slot_stride, head_stride, _ = cache.tensor.stride()
    return _native.CacheView(
        data=cache.address, block_stride=block_stride, slot_stride=slot_stride, head_stride=head_stride
    )


@pytest.mark.parametrize("packed_format", PACKED_FORMATS)
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 33), (13, 45), (241, 31)])
def test_packing_linear_embedding(packed_format, rows, n, isa, stored_weight):
    k, weight_format = 256, stored_format(packed_format)
    stored = stored_weight(weight_format, n, k)
    code = _native.Format[packed_format]
    source = Guarded(stored.data.view(torch.uint8).flatten())
    packed = Guarded(torch.zeros(_native.packed_bytes(code, n, k), dtype=torch.uint8))
    _native.pack(code, source.address, weight_format.row_bytes(k), n, k, packed.address)
    packed.assert_whole()
    x, bias, y = randn(rows, k), randn(n), empty(rows, n)
    _native.run(
        _native.LinearArguments(
            x=x.address, x_stride=k, weight=packed.address, format=code, bias=bias.address, y=y.address, y_stride=n,
            rows=rows, in_features=k, out_features=n,
        )
    )  # fmt: skip
    y.assert_whole()
    want = ops.linear(x.tensor.clone(), ops.pack_weight(stored, device="cpu"), bias.tensor.clone())
    assert torch.equal(y.tensor, want)
    w = empty(n, k)
    _native.run(
        _native.EmbeddingArguments(
            ids=0, weight=packed.address, format=code, scale=1.0, y=w.address, rows=n, in_features=k, out_features=n
        )
    )
    w.assert_whole()
    assert torch.equal(w.tensor, ops.dequantize(stored))


@pytest.mark.parametrize("weight_format", [f for f in WeightFormat if f.is_block_format])
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 33), (13, 45), (40, 31), (257, 31)])
def test_quantize_groups_and_linear_int8(weight_format, rows, n, isa, stored_weight):
    k = 256
    stored = stored_weight(weight_format, n, k)
    packed = Guarded(ops.pack_weight(stored, device="cpu").data)
    x, bias = randn(rows, k), randn(n)
    q, sums = (Guarded(torch.zeros(size, dtype=torch.uint8)) for size in (rows * k, rows * k // 16 * 4))
    scales = empty(k // 32, rows)
    _native.run(
        _native.QuantizeGroupsArguments(
            x=x.address, x_stride=k, q=q.address, scales=scales.address, sums=sums.address, rows=rows, in_features=k
        )
    )
    for output in (q, scales, sums):
        output.assert_whole()
    assert scales.tensor.isfinite().all()
    want = ops.linear_int8(
        ops.quantize_activations(x.tensor.clone()), ops.pack_weight(stored, device="cpu"), bias.tensor.clone()
    )
    for path in _native.int8_paths():
        _native.force_int8_path(path)
        y = empty(rows, n)
        _native.run(
            _native.LinearInt8Arguments(
                q=q.address, scales=scales.address, sums=sums.address, weight=packed.address,
                format=_native.Format[weight_format.value], bias=bias.address, y=y.address, y_stride=n, rows=rows,
                in_features=k, out_features=n,
            )
        )  # fmt: skip
        y.assert_whole()
        assert torch.equal(y.tensor, want)


@pytest.mark.skipif(not ops.has_bf16_tiles(), reason="this processor has no AMX")
@pytest.mark.parametrize("packed_format", PACKED_FORMATS)
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 33, 65, 257, 513])
def test_round_and_bf16_kernels(packed_format, rows, stored_weight):
    k, n, features = 256, 45, 32
    weight_format, code = stored_format(packed_format), _native.Format[packed_format]
    dtype = torch.bfloat16 if packed_format == "BF16_TILES" else None
    x, bias = randn(rows, k), randn(n)
    paired = Guarded(torch.full((rows, k), torch.nan, dtype=torch.bfloat16))
    _native.run(
        _native.RoundArguments(x=x.address, x_stride=k, y=paired.address, is_paired=True, rows=rows, channels=k)
    )
    paired.assert_whole()
    assert paired.tensor.isfinite().all()
    stored = stored_weight(weight_format, n, k)
    packed = Guarded(ops.pack_weight(stored, device="cpu", dtype=dtype).data)
    y = empty(rows, n)
    _native.run(
        _native.LinearBf16Arguments(
            x=paired.address, weight=packed.address, format=code, bias=bias.address, y=y.address, y_stride=n, rows=rows,
            in_features=k, out_features=n,
        )
    )  # fmt: skip
    y.assert_whole()
    rounded = ops.round_bf16(x.tensor.clone())
    assert torch.equal(y.tensor, ops.linear_bf16(rounded, ops.pack_weight(stored, device="cpu"), bias.tensor.clone()))
    gate_up = ops.pack_weight(stored_weight(weight_format, 2 * features, k), device="cpu", dtype=dtype)
    packed = Guarded(gate_up.data)
    gated = Guarded(torch.full((rows, features), torch.nan, dtype=torch.bfloat16))
    _native.run(
        _native.GatedLinearArguments(
            x=paired.address, weight=packed.address, format=code, y=gated.address, rows=rows, in_features=k,
            features=features, activation=_native.GatedActivation.SILU,
        )
    )  # fmt: skip
    gated.assert_whole()
    want = ops.round_bf16(ops.silu_mul(ops.linear_bf16(rounded, gate_up)))
    assert torch.equal(gated.tensor, want.data_TK)


@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 15, 16, 17, 33, 100])
def test_row_kernels(width, isa):
    x, weight, bias, residual = randn(3, width), randn(width), randn(width), randn(3, width)
    for _ in range(2):
        y, total = empty(3, width), empty(3, width)
        _native.run(
            _native.RmsNormArguments(
                x=x.address, x_stride=width, head_stride=0, residual=residual.address, total=total.address,
                weight=weight.address, y=y.address, q=0, scales=0, sums=0, bf16=0, is_paired=False, rows=3, heads=1,
                channels=width, eps=1e-5,
            )
        )  # fmt: skip
        assert y.tensor.isfinite().all()
        assert total.tensor.isfinite().all()
        y.assert_whole()
        total.assert_whole()
    y = empty(3, width)
    _native.run(
        _native.LayerNormArguments(
            x=x.address, x_stride=width, weight=weight.address, bias=bias.address, y=y.address, rows=3, channels=width,
            eps=1e-5,
        )
    )  # fmt: skip
    assert y.tensor.isfinite().all()
    y.assert_whole()
    for activation in _native.GatedActivation:
        gates, y = randn(3, 2 * width), empty(3, width)
        _native.run(
            _native.GatedArguments(
                x=gates.address, x_stride=2 * width, y=y.address, q=0, scales=0, sums=0, bf16=0, is_paired=False, rows=3,
                features=width, activation=activation,
            )
        )  # fmt: skip
        assert y.tensor.isfinite().all()
        y.assert_whole()
    heads, cos_sin = randn(3, 2, 2 * width), randn(4, 2 * width)
    positions = torch.tensor([0, 3, 1])
    _native.run(
        _native.RotaryArguments(
            x=heads.address, token_stride=4 * width, head_stride=2 * width, cos_sin=cos_sin.address,
            positions=positions.data_ptr(), rows=3, heads=2, rotary_size=2 * width,
        )
    )  # fmt: skip
    assert heads.tensor.isfinite().all()
    heads.assert_whole()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("size", "block_size"), [(1, 5), (7, 5), (16, 5), (33, 5), (32, 16), (64, 32)])
def test_cache_kernels(dtype, size, block_size, isa):
    case_type = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    cache_type = _native.ElementType[case_type]
    num_tokens, kv_heads, heads = 4 * block_size + 1, 2, 6
    num_slots, first = 5 * block_size, block_size - 1
    keys, values, q = randn(num_tokens, kv_heads, size), randn(num_tokens, kv_heads, size + 2), randn(3, heads, size)
    k_cache = Guarded(torch.full((5, block_size, kv_heads, size), torch.nan, dtype=dtype))
    v_cache = Guarded(torch.full((5, block_size, kv_heads, size + 2), torch.nan, dtype=dtype))
    slots = torch.arange(num_tokens) + first  # the last token in the last slot
    for x, cache, d in ((keys, k_cache, size), (values, v_cache, size + 2)):
        _native.run(
            _native.StoreArguments(
                x=x.address, token_stride=kv_heads * d, head_stride=d, cache=view(cache), type=cache_type,
                slots=slots.data_ptr(), rows=num_tokens, heads=kv_heads, head_size=d, block_size=block_size,
            )
        )  # fmt: skip
        cache.assert_whole()
        assert torch.equal(cache.tensor.view(num_slots, kv_heads, d)[first:], x.tensor.to(dtype))
        assert cache.tensor.view(num_slots, kv_heads, d)[:first].isnan().all()
    # Read from the cache's second block on: block 0 is never read.
    starts, lens = torch.tensor([0, 3], dtype=torch.int32), torch.tensor([num_tokens - 1], dtype=torch.int32)
    table = torch.tensor([1, 2, 3, 4], dtype=torch.int32)
    plan = _native.AttentionPlan(
        query_starts=starts.data_ptr(), seq_lens=lens.data_ptr(), block_tables=table.data_ptr(), key_starts=0,
        num_requests=1, max_blocks=4,
    )  # fmt: skip
    queries = Guarded(q.tensor.to(dtype))
    for path in _native.attention_paths():
        _native.force_attention_path(path)
        for right in (0, -1):
            o, lse = Guarded(torch.full((3, heads, size + 2), torch.nan, dtype=dtype)), empty(heads, 3)
            forward = _native.AttentionArguments(
                q=queries.address, q_type=cache_type, q_token_stride=heads * size, q_head_stride=size, k=view(k_cache),
                v=view(v_cache), type=cache_type, o=o.address, o_token_stride=heads * (size + 2), o_head_stride=size + 2,
                lse=lse.address, plan=plan, block_size=block_size, heads=heads, kv_heads=kv_heads, key_size=size,
                value_size=size + 2, options=scores(right),
            )  # fmt: skip
            _native.run(forward)
            outputs = [o, lse]
            d_o, delta = Guarded(o.tensor), empty(heads, 3)
            dq, dk, dv = (
                Guarded(torch.full(x.shape, torch.nan, dtype=dtype)) for x in (q.tensor, k_cache.tensor, v_cache.tensor)
            )
            _native.attention_backward(
                _native.AttentionBackwardArguments(
                    forward=forward,
                    d_o=d_o.address,
                    d_lse=0,
                    delta=delta.address,
                    dq=dq.address,
                    dk=view(dk),
                    dv=view(dv),
                )
            )
            for x in (*outputs, delta, dq, dk, dv):
                x.assert_whole()
            for x in (*outputs, delta, dq):
                assert x.tensor.isfinite().all()
            for x in (dk, dv):  # of the keys from the second block on
                gradients = x.tensor.view(num_slots, kv_heads, -1)
                assert gradients[block_size : block_size + num_tokens - 1].isfinite().all()
                assert gradients[:block_size].isnan().all()
    _native.force_attention_path("")


@pytest.mark.parametrize("path", _native.attention_paths())
def test_attention_without_query_heads(path):
    """Nothing is computed, and dk and dv are left as they are."""
    cache, dk, dv = randn(1, 4, 2, 8), empty(1, 4, 2, 8), empty(1, 4, 2, 8)
    nothing, starts, lens, table = empty(0), *(torch.tensor(x, dtype=torch.int32) for x in ([0, 3], [4], [0]))
    plan = _native.AttentionPlan(
        query_starts=starts.data_ptr(), seq_lens=lens.data_ptr(), block_tables=table.data_ptr(), key_starts=0,
        num_requests=1, max_blocks=1,
    )  # fmt: skip
    _native.force_attention_path(path)
    forward = _native.AttentionArguments(
        q=nothing.address, q_type=_native.ElementType.F32, q_token_stride=0, q_head_stride=8, k=view(cache), v=view(cache),
        type=_native.ElementType.F32, o=nothing.address, o_token_stride=0, o_head_stride=8, lse=nothing.address, plan=plan,
        block_size=4, heads=0, kv_heads=2, key_size=8, value_size=8, options=scores(-1),
    )  # fmt: skip
    _native.run(forward)
    _native.attention_backward(
        _native.AttentionBackwardArguments(
            forward=forward, d_o=nothing.address, d_lse=0, delta=nothing.address, dq=nothing.address, dk=view(dk), dv=view(dv)
        )
    )  # fmt: skip
    _native.force_attention_path("")
    nothing.assert_whole()
    for x in (dk, dv):
        assert x.whole.isnan().all()


def scores(right: int) -> _native.AttentionScores:
    return _native.AttentionScores(
        scale=0.3, softcap=0.0, left=-1, right=right, sinks=0, slopes=0, slopes_stride=0, bias=0, bias_request_stride=0,
        bias_head_stride=0, bias_row_stride=0, bias_keys=0, k_scales=0, v_scales=0, k_scales_stride=0, v_scales_stride=0,
        seed=0, threshold=0, kept_factor=0.0,
    )  # fmt: skip
