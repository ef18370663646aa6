"""Legend: B batch, S rows, N new keys, C tokens of the cache, H query heads, K KV heads, D key size, E value size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.attention_bounds import KV_CACHE, KV_CACHE_ALIBI, assert_lse_near, assert_near
from ops.flash_attn.formula import Options, attention, randn
from ops.flash_attn.rotation import rotated

from octavo.ops import flash_attn_func, flash_attn_with_kvcache

PLAIN = Options()
HEADS, KV_HEADS, KEY_SIZE, VALUE_SIZE, CAPACITY = 4, 2, 16, 12, 48


class Cache:
    """Random keys of each request, in rows of a cache or in its blocks."""

    def __init__(self, lens, dtype, block_size=None, leftpad=None, seed=0):
        self.lens, self.dtype, self.batch = lens, dtype, len(lens)
        self.leftpad = [0] * self.batch if leftpad is None else leftpad
        self.k = randn(self.batch, CAPACITY, KV_HEADS, KEY_SIZE, seed=seed, dtype=dtype)
        self.v = randn(self.batch, CAPACITY, KV_HEADS, VALUE_SIZE, seed=seed + 1, dtype=dtype)
        generator = torch.Generator().manual_seed(seed)
        self.block_table = self.batch_idx = None
        if block_size is None:
            self.batch_idx = torch.randperm(self.batch + 2, generator=generator)[: self.batch].int()
            self.k_cache, self.v_cache = (
                x.new_full((self.batch + 2, *x.shape[1:]), torch.nan).index_copy(0, self.batch_idx.long(), x)
                for x in (self.k, self.v)
            )
        else:
            count = -(-CAPACITY // block_size)
            order = torch.randperm(self.batch * count + 1, generator=generator)[:-1]
            self.block_table = order.view(self.batch, count).int()
            self.k_cache, self.v_cache = (
                torch.nn.functional.pad(x, (0, 0, 0, 0, 0, count * block_size - CAPACITY), value=torch.nan)
                .unflatten(1, (count, block_size))
                .flatten(0, 1)
                for x in (self.k, self.v)
            )
            self.k_cache, self.v_cache = (
                x.new_full((len(x) + 1, *x.shape[1:]), torch.nan).index_copy(0, order, x)
                for x in (self.k_cache, self.v_cache)
            )

    @property
    def arguments(self):
        return {
            "cache_seqlens": torch.tensor(self.lens, dtype=torch.int32),
            "cache_batch_idx": self.batch_idx,
            "block_table": self.block_table,
            "cache_leftpad": torch.tensor(self.leftpad, dtype=torch.int32) if any(self.leftpad) else None,
        }

    def stored(self, request, num_keys):
        """What the caches hold of a request now."""
        if self.block_table is None:
            row = int(self.batch_idx[request])
            return self.k_cache[row, :num_keys], self.v_cache[row, :num_keys]
        rows = self.block_table[request].long()
        return tuple(x[rows].flatten(0, 1)[:num_keys] for x in (self.k_cache, self.v_cache))


def check(
    lens,
    num_rows,
    num_new,
    dtype=torch.float32,
    options=PLAIN,
    block_size=None,
    leftpad=None,
    rotary=None,
    interleaved=True,
    **arguments,
):
    cache = Cache(lens, dtype, block_size, leftpad)
    q = randn(cache.batch, num_rows, HEADS, KEY_SIZE, seed=10, dtype=dtype)
    k = randn(cache.batch, num_new, KV_HEADS, KEY_SIZE, seed=11, dtype=dtype) if num_new else None
    v = randn(cache.batch, num_new, KV_HEADS, VALUE_SIZE, seed=12, dtype=dtype) if num_new else None
    tables, angles = {}, None
    if rotary:
        angles = torch.rand(CAPACITY + 40, rotary // 2, generator=torch.Generator().manual_seed(3)) * 2 * math.pi
        tables = {"rotary_cos": angles.cos().to(dtype), "rotary_sin": angles.sin().to(dtype)}
    got = flash_attn_with_kvcache(
        q,
        cache.k_cache,
        cache.v_cache,
        k,
        v,
        **tables,
        **cache.arguments,
        **options.arguments,
        rotary_interleaved=interleaved,
        return_softmax_lse=True,
        **arguments,
    )
    is_local = options.causal or options.window_size != (-1, -1)
    for i, length in enumerate(lens):
        q_i, keys, values = q[i], cache.k[i].clone(), cache.v[i].clone()
        if num_new:
            new = k[i]
            if rotary:
                rows = length + torch.arange(num_rows) * int(is_local)
                q_i = rotated(q_i, rows, angles, interleaved)
                new = rotated(new, length + torch.arange(num_new), angles, interleaved)
            keys[length : length + num_new], values[length : length + num_new] = new, v[i]
        end = length + num_new
        stored_k, stored_v = cache.stored(i, CAPACITY)
        torch.testing.assert_close(stored_k, keys, atol=1e-6, rtol=torch.finfo(dtype).eps)
        assert torch.equal(stored_v, values)
        keys, values = keys[cache.leftpad[i] : end], values[cache.leftpad[i] : end]
        same = attention(q_i, keys, values, options.of_request(i))
        exact = attention(q_i.double(), keys.double(), values.double(), options.of_request(i))
        assert_near(got.out[i], same.out, exact.out, KV_CACHE if options.alibi_slopes is None else KV_CACHE_ALIBI)
        if dtype == torch.float32 or not rotary:
            assert_lse_near(got.softmax_lse[i], exact.lse, dtype)


SLOPES = torch.tensor([0.3, 0.05, 0.2, 0.4])
CASES = [
    {"lens": (5, 40), "num_rows": 1, "num_new": 0},
    {"lens": (5, 0), "num_rows": 4, "num_new": 4, "options": Options(causal=True)},
    {"lens": (5, 17, 44), "num_rows": 3, "num_new": 4, "options": Options(causal=True), "rotary": 16},
    {"lens": (5, 17), "num_rows": 3, "num_new": 1, "rotary": 8, "interleaved": False},
    {"lens": (20, 17), "num_rows": 5, "num_new": 2, "options": Options(window_size=(7, 2)), "rotary": 10},
    {"lens": (20, 17), "num_rows": 2, "num_new": 2, "leftpad": (3, 17), "options": Options(causal=True), "rotary": 16},
    {"lens": (20, 47), "num_rows": 1, "num_new": 1, "options": Options(alibi_slopes=SLOPES, causal=True)},
    {"lens": (20, 47), "num_rows": 2, "num_new": 0, "options": Options(alibi_slopes=SLOPES.expand(2, 4))},
    {"lens": (30,), "num_rows": 6, "num_new": 3, "options": Options(softcap=2.0, softmax_scale=0.5)},
]


@pytest.mark.parametrize("block_size", [None, 16, 7])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_semantics(case, block_size, attention_backend):
    check(**case, block_size=block_size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("block_size", [None, 1, 256])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_half_precision(case, block_size, dtype):
    check(**case, dtype=dtype, block_size=block_size)


@settings(max_examples=40)
@given(
    lens=st.lists(st.integers(0, 30), min_size=1, max_size=3),
    num_rows=st.integers(1, 9),
    num_new=st.integers(0, 9),
    block_size=st.none() | st.integers(1, 50),
    causal=st.booleans(),
    left=st.integers(-1, 40),
    rotary=st.sampled_from([0, 2, 6, 16]),
    interleaved=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    pad=st.integers(0, 30),
    num_splits=st.integers(0, 1),
)
def test_any_shape(lens, num_rows, num_new, block_size, causal, left, rotary, interleaved, dtype, pad, num_splits):
    check(
        lens,
        num_rows,
        num_new,
        dtype,
        Options(causal=causal, window_size=(left, -1)),
        block_size,
        [min(pad, n) for n in lens],
        rotary if num_new else 0,
        interleaved,
        num_splits=num_splits,
    )


def test_the_whole_cache_by_default(attention_backend):
    q, k, v = randn(2, 3, 4, 16, seed=0), randn(3, 20, 2, 16, seed=1), randn(3, 20, 2, 16, seed=2)
    want = flash_attn_func(q, k[:2], v[:2], causal=True)
    assert torch.equal(flash_attn_with_kvcache(q, k, v, causal=True), want)
    assert torch.equal(flash_attn_with_kvcache(q, k, v, cache_seqlens=20, causal=True), want)
    table = torch.tensor([[0], [1]])
    assert torch.equal(flash_attn_with_kvcache(q, k, v, block_table=table, causal=True), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_give_the_bits_of_the_whole(dtype, attention_backend):
    """A prompt at once, in chunks, and token by token: rows depend on their keys alone."""
    num_tokens = 40
    q, k, v = (randn(2, num_tokens, heads, 16, seed=heads, dtype=dtype) for heads in (4, 2, 2))
    want = flash_attn_func(q, k, v, causal=True, window_size=(30, 0))
    caches = torch.full((2, 2, num_tokens, 2, 16), torch.nan, dtype=dtype).unbind(0)
    at = 0
    for size in (17, 1, 1, 20, 1):
        part = slice(at, at + size)
        got = flash_attn_with_kvcache(
            q[:, part], *caches, k[:, part], v[:, part], cache_seqlens=at, causal=True, window_size=(30, 0)
        )
        assert torch.equal(got, want[:, part])
        at += size
    assert torch.equal(caches[0], k)
    assert torch.equal(caches[1], v)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
@pytest.mark.parametrize("per_request", [False, True])
def test_caches_of_bytes(dtype, per_request, attention_backend):
    """What is stored is x / scale, rounded; what is attended to is what is stored, times scale."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, KV_HEADS) if per_request else (KV_HEADS,)
    low = 0.02 if dtype == torch.int8 else 0.005
    k_scale, v_scale = (low * (1 + torch.rand(shape, generator=generator)) for _ in range(2))
    k_cache, v_cache = (torch.zeros(4, 16, KV_HEADS, size, dtype=dtype) for size in (KEY_SIZE, VALUE_SIZE))
    table = torch.tensor([[2, 0], [1, 3]], dtype=torch.int32)
    stored = [torch.empty(2, 0, KV_HEADS, size) for size in (KEY_SIZE, VALUE_SIZE)]
    scales = [(x if per_request else x.expand(2, -1))[:, None, :, None] for x in (k_scale, v_scale)]
    for step, size in enumerate((20, 1, 3)):
        q, k, v = (
            randn(2, size, heads, width, seed=10 * step + i)
            for i, (heads, width) in enumerate(((HEADS, KEY_SIZE), (KV_HEADS, KEY_SIZE), (KV_HEADS, VALUE_SIZE)))
        )
        got = flash_attn_with_kvcache(
            q,
            k_cache,
            v_cache,
            k,
            v,
            cache_seqlens=stored[0].shape[1],
            block_table=table,
            causal=True,
            k_descale=k_scale,
            v_descale=v_scale,
        )
        for i, (x, scale) in enumerate(zip((k, v), scales, strict=True)):
            code = x / scale
            code = code.round().clamp(-127, 127) if dtype == torch.int8 else code.clamp(-448, 448).to(dtype).float()
            stored[i] = torch.cat((stored[i], code * scale), 1)
        for i in range(2):
            same, exact = (
                attention(*(x[i].to(wide) for x in (q, *stored)), Options(causal=True))
                for wide in (torch.float32, torch.float64)
            )
            assert_near(got[i], same.out, exact.out, KV_CACHE)
    row = k_cache[table[0].long()].flatten(0, 1)[: stored[0].shape[1]].float() * scales[0][0]
    torch.testing.assert_close(row, stored[0][0])


def test_blocks_of_the_padding_may_be_anything(attention_backend):
    """Behind the padding on the left, request 0 has blocks 1 and 2; before it, its table names what request 1 writes to."""
    k_cache, v_cache = randn(4, 4, 2, 16, seed=0), randn(4, 4, 2, 16, seed=1)
    q, k, v = randn(2, 1, 4, 16, seed=2), randn(2, 1, 2, 16, seed=3), randn(2, 1, 2, 16, seed=4)
    where = {"cache_seqlens": torch.tensor([9, 2]), "cache_leftpad": torch.tensor([5, 0])}
    want = None
    for other in (0, 3, -1, 2**31 - 1):
        table = torch.tensor([[other, 1, 2, other], [3, other, other, other]], dtype=torch.int32)
        caches = k_cache.clone(), v_cache.clone()
        got = flash_attn_with_kvcache(q, *caches, k, v, **where, block_table=table)
        want = got if want is None else want
        assert torch.equal(got, want)


def test_nothing_to_do(attention_backend):
    for batch, num_rows, num_heads, capacity in ((0, 2, 2, 5), (2, 0, 2, 5), (2, 3, 0, 5), (2, 3, 2, 0)):
        q, k, v = (
            randn(batch, num_rows, num_heads, 8, seed=0),
            randn(2, capacity, 2, 8, seed=1),
            randn(2, capacity, 2, 4, seed=2),
        )
        out, lse = flash_attn_with_kvcache(q, k, v, return_softmax_lse=True)
        assert out.shape == (batch, num_rows, num_heads, 4)
        assert lse.shape == (batch, num_heads, num_rows)
        if capacity == 0:
            assert not out.any()
            assert (lse == -torch.inf).all()


def test_new_rows_without_new_keys_and_the_reverse(attention_backend):
    k_cache, v_cache = torch.zeros(2, 8, 2, 16), torch.zeros(2, 8, 2, 16)
    k, v = randn(2, 3, 2, 16, seed=1), randn(2, 3, 2, 16, seed=2)
    no_rows = flash_attn_with_kvcache(torch.zeros(2, 0, 4, 16), k_cache, v_cache, k, v, cache_seqlens=2)
    assert no_rows.shape == (2, 0, 4, 16)
    assert torch.equal(k_cache[:, 2:5], k)
    assert torch.equal(v_cache[:, 2:5], v)
    q = randn(2, 2, 4, 16, seed=3)
    none_new = flash_attn_with_kvcache(q, k_cache, v_cache, k[:, :0], v[:, :0], cache_seqlens=5)
    assert torch.equal(none_new, flash_attn_with_kvcache(q, k_cache, v_cache, cache_seqlens=5))
