"""Legend: T tokens, H query heads, K KV heads, D key size, E value size."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import ops
from octavo.ops import AttentionOptions, AttentionPlan, Dropout, OpArgumentError
from octavo.ops.dispatch import NATIVE


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sequence's heads and the options of its attention."""

    num_tokens: int
    num_heads: int = 4
    num_kv_heads: int = 2
    key_size: int = 16
    value_size: int = 16
    block_size: int = 16
    dtype: torch.dtype = torch.float32
    scale: float = 0.3
    window: int | None = None
    softcap: float = 0.0
    has_sinks: bool = False
    is_causal: bool = True
    seed: int = 0

    def tensors(self):
        generator = torch.Generator().manual_seed(self.seed)
        q = torch.randn(self.num_tokens, self.num_heads, self.key_size, generator=generator)
        k = torch.randn(self.num_tokens, self.num_kv_heads, self.key_size, generator=generator)
        v = torch.randn(self.num_tokens, self.num_kv_heads, self.value_size, generator=generator)
        return q, k, v, torch.randn(self.num_heads, generator=generator) if self.has_sinks else None

    def options(self):
        return AttentionOptions(
            scale=self.scale,
            window_left=None if self.window is None else self.window - 1,
            window_right=0 if self.is_causal else None,
            softcap=self.softcap,
            sinks=self.tensors()[3],
        )


class Sequence:
    """A case in a cache whose unused slots are NaN, at scattered blocks; block 0 is the null block."""

    def __init__(self, case: Case, spare_blocks: int = 3) -> None:
        self.case = case
        self.q, self.k, self.v, _ = case.tensors()
        num_blocks = -(-case.num_tokens // case.block_size)
        total = num_blocks + 1 + spare_blocks
        heads = (total, case.block_size, case.num_kv_heads)
        self.k_cache = torch.full((*heads, case.key_size), torch.nan).to(case.dtype)
        self.v_cache = torch.full((*heads, case.value_size), torch.nan).to(case.dtype)
        order = torch.randperm(total - 1, generator=torch.Generator().manual_seed(case.seed)) + 1
        self.table = order[:num_blocks].int()
        self.num_computed = 0

    def step(self, num_tokens: int) -> torch.Tensor:
        start, end = self.num_computed, self.num_computed + num_tokens
        self.num_computed = end
        positions = torch.arange(start, end)
        slots = self.table[positions // self.case.block_size].long() * self.case.block_size
        slots += positions % self.case.block_size
        ops.store_kv(self.k[start:end], self.v[start:end], self.k_cache, self.v_cache, slots)
        return self.attend(self.q[start:end], self.plan(num_tokens, end))

    def plan(self, num_tokens: int, end: int) -> AttentionPlan:
        table = self.table.clone()
        if self.case.window is not None:
            table[: max(0, end - num_tokens - self.case.window + 1) // self.case.block_size] = 0
        return AttentionPlan(
            query_starts=torch.tensor([0, num_tokens], dtype=torch.int32),
            seq_lens=torch.tensor([end], dtype=torch.int32),
            block_tables=table[None],
            block_size=self.case.block_size,
        )

    def attend(self, q_THD: torch.Tensor, plan: AttentionPlan) -> torch.Tensor:
        return ops.paged_attention(q_THD, self.k_cache, self.v_cache, plan, self.case.options())

    def steps(self, *sizes: int) -> torch.Tensor:
        return torch.cat([self.step(size) for size in sizes])


def formula(case: Case, dtype: torch.dtype, is_amx: bool = False) -> torch.Tensor:
    """softmax over the whole score matrix, of keys and values rounded to the cache's dtype; on AMX q and e^(s − max s), too."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().to(dtype) if is_amx and case.dtype == torch.bfloat16 else x

    q, k, v, sinks = case.tensors()
    q = rounded(q)
    q, k, v = q.to(dtype), k.to(case.dtype).to(dtype), v.to(case.dtype).to(dtype)
    group = case.num_heads // case.num_kv_heads
    s = torch.einsum("thd,shd->hts", q, k.repeat_interleave(group, 1)) * case.scale
    if case.softcap:
        s = case.softcap * torch.tanh(s / case.softcap)
    distance = torch.arange(case.num_tokens)[:, None] - torch.arange(case.num_tokens)
    hidden = (distance < 0) & case.is_causal
    if case.window is not None:
        hidden |= distance >= case.window
    s = s.masked_fill(hidden, -torch.inf)
    if sinks is not None:
        s = torch.cat((s, sinks.to(dtype)[:, None, None].expand(-1, case.num_tokens, 1)), dim=-1)
    p = (s - s.amax(-1, keepdim=True)).exp()
    o = torch.einsum("hts,shd->thd", rounded(p[..., : case.num_tokens]), v.repeat_interleave(group, 1))
    return o / p.sum(-1).T[..., None]


def assert_accurate_by(check, got: torch.Tensor, case: Case, backend: str) -> None:
    """Beside the formula in fp32 torch, with the roundings that the path makes: AMX takes bf16 as it is. fp16 it takes as two terms
    of eight bits, whose own rounding is allowed where torch's error is less, as of rows of one key, where it is none."""
    exact, is_amx = formula(case, torch.float64), backend.endswith(" amx")
    if not is_amx or case.dtype == torch.float32:
        check(got, formula(case, torch.float32), exact)
        return
    plain = formula(case, torch.float32, is_amx)
    if case.dtype == torch.bfloat16:
        check(got, plain, exact)
        return
    allowed = torch.maximum((plain - exact).abs().max(), 2**-17 * exact.abs().max())
    assert (got - exact).abs().max() <= 2 * allowed


CASES = [
    Case(num_tokens=1),
    Case(num_tokens=64),
    Case(num_tokens=65, num_heads=9, num_kv_heads=3, key_size=64, value_size=64),
    Case(num_tokens=63, num_heads=3, num_kv_heads=3, key_size=1, value_size=1, block_size=1),
    Case(num_tokens=130, num_heads=8, num_kv_heads=1, key_size=59, value_size=7, block_size=8),
    Case(num_tokens=130, key_size=111, value_size=128, block_size=256, dtype=torch.bfloat16),
    Case(num_tokens=200, num_heads=14, key_size=80, value_size=80, dtype=torch.float16, window=1),
    Case(num_tokens=200, block_size=5, window=70, softcap=2.0, has_sinks=True),
    Case(num_tokens=150, key_size=32, value_size=40, dtype=torch.bfloat16, softcap=30.0, scale=2.0),
    Case(num_tokens=20, num_heads=1, num_kv_heads=1, key_size=512, value_size=512, scale=0.05, has_sinks=True),
    Case(num_tokens=90, num_heads=60, num_kv_heads=1, key_size=8, value_size=8, has_sinks=True, window=64),
    Case(num_tokens=300, num_heads=9, num_kv_heads=3, key_size=64, value_size=64, dtype=torch.bfloat16, scale=0.125),
    Case(num_tokens=129, num_heads=17, num_kv_heads=1, key_size=33, value_size=1, block_size=7, dtype=torch.bfloat16),
    Case(num_tokens=200, key_size=128, value_size=96, dtype=torch.bfloat16, window=70, softcap=2.0, has_sinks=True),
    Case(num_tokens=140, num_heads=5, num_kv_heads=1, key_size=512, value_size=300, dtype=torch.bfloat16, scale=0.05),
    Case(num_tokens=70, dtype=torch.bfloat16, scale=-0.3, block_size=1),
    Case(num_tokens=2100, num_heads=2, num_kv_heads=1, dtype=torch.bfloat16),
    Case(num_tokens=2100, num_heads=2, num_kv_heads=1, dtype=torch.bfloat16, window=1500, has_sinks=True),
    Case(num_tokens=2100, num_heads=1, num_kv_heads=1),
    Case(num_tokens=150, num_heads=5, num_kv_heads=1, key_size=64, block_size=32, dtype=torch.bfloat16),
    Case(num_tokens=150, num_heads=16, num_kv_heads=1, key_size=96, value_size=160, dtype=torch.bfloat16, window=33),
]
WHOLE_CASES = [
    Case(num_tokens=1, is_causal=False),
    Case(num_tokens=130, is_causal=False, softcap=3.0),
    Case(
        num_tokens=300, num_heads=9, num_kv_heads=3, key_size=64, value_size=59, dtype=torch.bfloat16, is_causal=False
    ),
    Case(num_tokens=129, has_sinks=True, dtype=torch.float16, is_causal=False),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_attention_is_accurate(case, attention_backend, assert_accurate):
    got = Sequence(case).step(case.num_tokens)
    assert_accurate_by(assert_accurate, got, case, attention_backend)


@pytest.mark.parametrize("case", WHOLE_CASES, ids=range(len(WHOLE_CASES)))
def test_attention_that_is_not_causal(case, attention_backend, threads, assert_accurate):
    whole = Sequence(case)
    got = whole.step(case.num_tokens)
    assert_accurate_by(assert_accurate, got, case, attention_backend)
    threads(1)
    for first in {0, case.num_tokens // 2, case.num_tokens - 1}:  # the last rows alone, over all keys
        plan = whole.plan(case.num_tokens - first, case.num_tokens)
        assert torch.equal(whole.attend(whole.q[first:], plan), got[first:])


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_chunks_give_the_same_bits(case, attention_backend, threads):
    threads(2)
    whole = Sequence(case).step(case.num_tokens)
    threads(1)
    sizes = (7, 64) if attention_backend == "reference" else (1, 7, 64)
    if case.num_tokens > 1000:
        sizes = (700,)
    for size in sizes:
        chunks = [size] * (case.num_tokens // size) + [case.num_tokens % size] * (case.num_tokens % size > 0)
        assert torch.equal(Sequence(case).steps(*chunks), whole), size
    if case.num_tokens > 2:
        threads(2)
        assert torch.equal(Sequence(case).steps(case.num_tokens - 2, 1, 1), whole)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_is_not_finite_is_seen_by_no_row_before_it(dtype, value, attention_backend):
    if attention_backend == "reference":
        pytest.skip("multiplies what it hides by 0")
    case = Case(num_tokens=150, dtype=dtype)
    want = Sequence(case).step(150)
    broken = Sequence(case)
    broken.v[70] = value
    got = broken.step(150)
    assert torch.equal(got[:70], want[:70])
    assert not got[70:].isfinite().any()


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(150,), (100, *[1] * 50)])
def test_a_query_or_key_that_is_not_finite_spoils_the_rows_that_see_it(sizes, dtype, value, attention_backend):
    if attention_backend == "reference":
        pytest.skip("multiplies what it hides by 0")
    case = Case(num_tokens=150, dtype=dtype, key_size=32, scale=0.1)
    want = Sequence(case).steps(*sizes)
    broken = Sequence(case)
    broken.k[70, 0, 3] = torch.nan
    broken.q[120, 3, 5] = value
    got = broken.steps(*sizes)
    seen = torch.zeros(150, 4, dtype=torch.bool)
    seen[70:, :2] = True  # by the heads of that key's group
    seen[120, 3] = True
    assert torch.equal(got[~seen], want[~seen])
    assert got[seen].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(1500,), (700, 700, 100), (1100, 400)])
def test_blocks_behind_the_window_are_not_read(sizes, dtype, attention_backend):
    if attention_backend == "reference":
        pytest.skip("multiplies what it hides by 0")
    case = Case(num_tokens=1500, dtype=dtype, window=200, num_heads=2, num_kv_heads=1)
    got = Sequence(case).steps(*sizes)  # the null block is NaN
    assert got.isfinite().all()
    whole = Sequence(case)
    whole.k_cache[0], whole.v_cache[0] = 0, 0
    assert torch.equal(got, whole.steps(*sizes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e8, 1e10])
def test_scores_of_any_size(scale, dtype, attention_backend):
    case = Case(num_tokens=500, dtype=dtype, scale=scale)
    want = formula(case, torch.float64)
    for sizes in ((500,), (400, *[1] * 100)):
        got = Sequence(case).steps(*sizes)
        # Nearly every row's largest score is far above the others: one value is what it gives.
        is_near = (got.double() - want).abs().amax(-1) <= 0.01 * want.abs().amax()
        assert is_near.double().mean() > 0.98
        assert got.isfinite().all()


def test_the_layout_of_blocks_changes_no_bit(attention_backend):
    case = Case(num_tokens=70, key_size=32, value_size=32, dtype=torch.bfloat16)
    want = Sequence(case).steps(66, 1, 1, 1, 1)
    head_major = Sequence(case)
    for name in ("k_cache", "v_cache"):
        cache = getattr(head_major, name)
        setattr(head_major, name, cache.transpose(1, 2).contiguous().transpose(1, 2))
    assert torch.equal(head_major.steps(66, 1, 1, 1, 1), want)


def test_requests_do_not_see_each_other(attention_backend):
    """Four requests (one with no rows) in one plan and one cache give the bits each gives alone."""
    cases = [Case(num_tokens=n, seed=n, window=40, has_sinks=False) for n in (1, 100, 17, 70)]
    alone = [Sequence(case, spare_blocks=20) for case in cases]
    counts = [1, 37, 0, 1]
    for sequence, count in zip(alone, counts, strict=True):
        if sequence.case.num_tokens > count:
            sequence.step(sequence.case.num_tokens - count)
    first = alone[0]
    blocks_before, tables = 1, []
    k_parts, v_parts = [first.k_cache[:1]], [first.v_cache[:1]]
    for sequence in alone:
        k_parts.append(sequence.k_cache[1:])
        v_parts.append(sequence.v_cache[1:])
        table = torch.zeros(10, dtype=torch.int32)
        table[: len(sequence.table)] = sequence.table + blocks_before - 1
        tables.append(table)
        blocks_before += len(sequence.k_cache) - 1
    k_cache, v_cache = torch.cat(k_parts), torch.cat(v_parts)
    rows = [s.q[s.num_computed : s.num_computed + n] for s, n in zip(alone, counts, strict=True)]
    plan = AttentionPlan(
        query_starts=torch.tensor([0, *counts]).cumsum(0).int(),
        seq_lens=torch.tensor([case.num_tokens for case in cases], dtype=torch.int32),
        block_tables=torch.stack(tables),
        block_size=16,
    )
    for sequence, table, count in zip(alone, tables, counts, strict=True):
        positions = torch.arange(sequence.num_computed, sequence.num_computed + count)
        slots = table[positions // 16].long() * 16 + positions % 16
        part = slice(sequence.num_computed, sequence.num_computed + count)
        ops.store_kv(sequence.k[part], sequence.v[part], k_cache, v_cache, slots)
    got = ops.paged_attention(torch.cat(rows), k_cache, v_cache, plan, cases[0].options())
    want = [s.step(count) for s, count in zip(alone, counts, strict=True) if count]
    assert torch.equal(got, torch.cat(want))


def test_no_requests(attention_backend):
    cache = torch.zeros(2, 4, 1, 8)
    empty = torch.zeros(0, dtype=torch.int32)
    plan = AttentionPlan(
        query_starts=torch.zeros(1, dtype=torch.int32),
        seq_lens=empty,
        block_tables=torch.zeros(0, 3, dtype=torch.int32),
        block_size=4,
    )
    got = ops.paged_attention(torch.zeros(0, 2, 8), cache, cache, plan, AttentionOptions(scale=1.0, window_right=0))
    assert got.shape == (0, 2, 8)
    ops.store_kv(torch.zeros(0, 1, 8), torch.zeros(0, 1, 8), cache, cache, torch.zeros(0, dtype=torch.int64))


@settings(max_examples=40)
@given(
    num_tokens=st.integers(1, 140),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 5),
    key_size=st.integers(1, 70),
    value_size=st.integers(1, 70),
    block_size=st.integers(1, 20),
    window=st.none() | st.integers(1, 150),
    cut=st.integers(0, 139),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_shape(
    num_tokens, num_kv_heads, group, key_size, value_size, block_size, window, cut, dtype, assert_accurate
):
    case = Case(
        num_tokens=num_tokens,
        num_heads=num_kv_heads * group,
        num_kv_heads=num_kv_heads,
        key_size=key_size,
        value_size=value_size,
        block_size=block_size,
        window=window,
        dtype=dtype,
    )
    backend = f"native {NATIVE.attention_paths()[-1]}"
    got = Sequence(case).step(num_tokens)
    assert_accurate_by(assert_accurate, got, case, backend)
    cut %= num_tokens
    if cut:
        assert torch.equal(Sequence(case).steps(cut, num_tokens - cut), got)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_size", [1, 16, 59])
def test_stored_values_are_rounded_to_nearest_even(dtype, head_size, attention_backend):
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(40, 3, head_size, generator=generator)
    k *= 10.0 ** torch.randint(-9, 6, k.shape, generator=generator)
    ties = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 65519.0, 65520.0, -0.0, 2.0**-25, 3 * 2.0**-25])
    k.view(-1)[: len(ties)] = ties
    k_cache, v_cache = torch.zeros(6, 11, 3, head_size, dtype=dtype), torch.zeros(6, 11, 3, head_size, dtype=dtype)
    slots = torch.randperm(66, generator=generator)[:40]
    ops.store_kv(k, -k, k_cache, v_cache, slots)
    assert torch.equal(k_cache.view(66, 3, head_size)[slots], k.to(dtype))
    assert torch.equal(v_cache.view(66, 3, head_size)[slots], (-k).to(dtype))
    untouched = torch.ones(66, dtype=torch.bool).index_fill(0, slots, value=False)
    assert not k_cache.view(66, 3, head_size)[untouched].any()


def test_strided_queries_and_caches(isa):
    case = Case(num_tokens=50)
    dense = Sequence(case)
    want = dense.step(50)
    strided = Sequence(case)
    both = torch.full((*strided.k_cache.shape[:3], 40), torch.nan)
    strided.k_cache, strided.v_cache = both[..., :16], both[..., 20:36]
    wide = torch.zeros(50, 100)
    wide[:, 7:71] = strided.q.flatten(1)
    strided.q = wide[:, 7:71].unflatten(1, (4, 16))
    strided.k = strided.k.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(strided.step(50), want)
    assert torch.isnan(both[..., 16:20]).all()
    assert torch.isnan(both[..., 36:]).all()


def test_arguments_are_checked():
    q, cache = torch.zeros(3, 4, 8), torch.zeros(5, 4, 2, 8)
    plan = AttentionPlan(
        query_starts=torch.tensor([0, 1, 3], dtype=torch.int32),
        seq_lens=torch.tensor([6, 2], dtype=torch.int32),
        block_tables=torch.tensor([[1, 2], [3, 0]], dtype=torch.int32),
        block_size=4,
    )

    plain = AttentionOptions(scale=1.0)

    def call(q=q, k_cache=cache, v_cache=cache, options=plain, out=None, lse_HT=None, **changes):
        changed = dataclasses.replace(plan, **changes)
        return ops.paged_attention(q, k_cache, v_cache, changed, options, out=out, lse_HT=lse_HT)

    assert call().shape == (3, 4, 8)
    for good in (
        {"window_left": 0, "window_right": 5},
        {"alibi_slopes": torch.ones(2, 4)},
        {"bias": torch.zeros(2, 1, 2, 6)},
        {"dropout": Dropout(probability=0.5, seed=7)},
    ):
        assert call(options=AttentionOptions(scale=1.0, **good)).shape == (3, 4, 8)
    for wrong in (
        {"q": q[:2]},
        {"q": q[..., :7]},
        {"q": q[:, :3]},
        {"q": q[0]},
        {"k_cache": cache.double()},
        {"v_cache": cache[:4]},
        {"v_cache": cache.bfloat16()},
        {"q": torch._neg_view(q)},
        {"out": torch.zeros(3, 4, 7)},
        {"out": torch.zeros(3, 4, 8).half()},
        {"lse_HT": torch.zeros(3, 4)},
        {"key_starts": torch.tensor([-1, 0], dtype=torch.int32)},
        {"key_starts": torch.tensor([3, 0], dtype=torch.int32)},
        {"seq_lens": torch.tensor([6, -1], dtype=torch.int32)},
        {"block_size": 8},
        {"seq_lens": torch.tensor([9, 2], dtype=torch.int32)},
        {"seq_lens": torch.tensor([6, 2])},
        {"query_starts": torch.tensor([0, 4, 3], dtype=torch.int32)},
        {"query_starts": torch.tensor([1, 1, 3], dtype=torch.int32)},
        {"block_tables": torch.tensor([[1, 5], [3, 0]], dtype=torch.int32)},
        {"block_tables": torch.tensor([[1, -1], [3, 0]], dtype=torch.int32)},
    ):
        with pytest.raises(OpArgumentError):
            call(**wrong)
    for wrong in (
        {"window_left": -1},
        {"window_right": 2.5},
        {"window_left": 2**63},
        {"scale": torch.nan},
        {"softcap": -1.0},
        {"softcap": torch.nan},
        {"sinks": torch.zeros(2)},
        {"alibi_slopes": torch.ones(3)},
        {"alibi_slopes": torch.ones(3, 4)},
        {"alibi_slopes": torch.ones(4).double()},
        {"bias": torch.zeros(4, 2, 6)},
        {"bias": torch.zeros(2, 4, 1, 6)},
        {"bias": torch.zeros(2, 4, 2, 5)},
        {"bias": torch.zeros(2, 2, 2, 6)},
        {"k_scales": torch.ones(2), "v_scales": torch.ones(2)},
        {"dropout": Dropout(probability=1.0, seed=0)},
        {"dropout": Dropout(probability=torch.nan, seed=0)},
    ):
        with pytest.raises(OpArgumentError):
            call(options=AttentionOptions(**{"scale": 1.0, **wrong}))
    k, slots = torch.zeros(2, 2, 8), torch.tensor([0, 19])
    for args in (
        (k, k, cache, cache, torch.tensor([0, 20])),
        (k, k, cache, cache, torch.tensor([-1, 0])),
        (k, k, cache, cache, slots.int()),
        (k, k, cache, cache, slots[:1]),
        (k[:, :1], k[:, :1], cache, cache, slots),
        (k, k[..., :7], cache, cache, slots),
        (k, k.double(), cache, cache, slots),
    ):
        with pytest.raises(OpArgumentError):
            ops.store_kv(*args)


def test_starts_that_wrap_are_refused():
    most = 2**31 - 1
    with pytest.raises(OpArgumentError, match="rising starts"):
        AttentionPlan(
            query_starts=torch.tensor([0, most, -most + 8, 3], dtype=torch.int32),
            seq_lens=torch.tensor([most] * 3, dtype=torch.int32),
            block_tables=torch.zeros(3, 1, dtype=torch.int32),
            block_size=most,
        )
