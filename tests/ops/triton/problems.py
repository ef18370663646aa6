"""Attention problems for every layout, and what plain PyTorch makes of them.

Legend: N rows and M keys of one request, H query heads, K KV heads, D key size, E value size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import torch

from octavo.ops import AttentionOptions, AttentionPlan
from octavo.ops.reference.philox import keep_mask


class Layout(Enum):
    PAGED = "paged"
    """Blocks scattered over a cache."""
    DENSE = "dense"
    """A block a request."""
    VARLEN = "varlen"
    """Requests one after another in one block."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Requests with so many rows and keys. What `options` gives is called with the problem, and may make tensors."""

    rows: tuple[int, ...]
    keys: tuple[int, ...]
    num_heads: int = 4
    num_kv_heads: int = 2
    key_size: int = 16
    value_size: int = 16
    block_size: int = 16
    layout: Layout = Layout.PAGED
    dtype: torch.dtype = torch.float32
    cache_dtype: torch.dtype | None = None
    scale: float = 0.3
    options: dict[str, Any] = field(default_factory=dict)
    has_hints: bool = False
    device: str = "cpu"

    def build(self) -> "Built":
        generator = torch.Generator().manual_seed(sum(self.rows) + 7 * sum(self.keys) + self.key_size)

        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        tables, starts, block_size, num_blocks = self._place(generator)
        q = randn(sum(self.rows), self.num_heads, self.key_size).to(self.dtype)
        caches = []
        for size in (self.key_size, self.value_size):
            values = randn(num_blocks, block_size, self.num_kv_heads, size)
            is_used = torch.zeros(num_blocks, block_size, dtype=torch.bool)
            for index, num_keys in enumerate(self.keys):
                tokens = torch.arange(num_keys) + (0 if starts is None else int(starts[index]))
                is_used[tables[index][tokens // block_size].long(), tokens % block_size] = True
            caches.append(self._stored(values, is_used))
        given = {name: make(self, randn) if callable(make) else make for name, make in self.options.items()}
        given = {name: x.to(self.device) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
        hints = {"max_query_rows": max(self.rows), "max_keys": max(self.keys)} if self.has_hints else {}
        plan = AttentionPlan(
            query_starts=torch.tensor([0, *self.rows]).cumsum(0).int().to(self.device),
            seq_lens=torch.tensor(self.keys, dtype=torch.int32).to(self.device),
            block_tables=tables.to(self.device),
            block_size=block_size,
            key_starts=None if starts is None else starts.to(self.device),
            **hints,
        )
        tensors = (x.to(self.device) for x in (q, *caches))
        return Built(self, *tensors, plan, AttentionOptions(**{"scale": self.scale, **given}))

    def _place(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None, int, int]:
        """Block tables, key starts, block size, number of blocks."""
        if self.layout is Layout.VARLEN:
            starts = torch.tensor([0, *self.keys]).cumsum(0).int()
            return torch.zeros(len(self.keys), 1, dtype=torch.int32), starts[:-1], max(1, int(starts[-1])), 1
        if self.layout is Layout.DENSE:
            order = torch.randperm(len(self.keys), generator=generator).int()
            return order[:, None], None, max(1, *self.keys), len(self.keys)
        counts = [-(-num_keys // self.block_size) for num_keys in self.keys]
        ids = torch.randperm(sum(counts), generator=generator).int() + 1  # block 0 is the null block
        tables = torch.zeros(len(counts), max(counts, default=0), dtype=torch.int32)
        for row, part in zip(tables, ids.split(counts), strict=True):
            row[: len(part)] = part
        return tables, None, self.block_size, sum(counts) + 1

    def _stored(self, values: torch.Tensor, is_used: torch.Tensor) -> torch.Tensor:
        """In the cache's type; slots of no request hold NaN, where the type has it."""
        dtype = self.cache_dtype or self.dtype
        if dtype == torch.int8:
            return (values * 40).round().clamp(-127, 127).to(dtype)
        return values.masked_fill(~is_used[..., None, None], torch.nan).to(dtype)


@dataclass(frozen=True)
class Built:
    problem: Problem
    q: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    plan: AttentionPlan
    options: AttentionOptions

    def outputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where attention writes: o and lse, full of what it must not leave there."""
        shape = (*self.q.shape[:2], self.v_cache.shape[-1])
        lse = torch.full((self.q.shape[1], self.q.shape[0]), torch.nan, device=self.q.device)
        return torch.full(shape, torch.nan, dtype=self.q.dtype, device=self.q.device), lse

    def plain(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """o and lse by the formula, computed in `dtype`."""
        o, lse = _plain(self, self.q.to(dtype), self.k_cache, self.v_cache, dtype)
        return o, lse

    def plain_gradients(self, do: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """dq, dk, dv by autograd, computed in `dtype`."""
        leaves = [x.detach().to(dtype).nan_to_num(0.0).requires_grad_() for x in (self.q, self.k_cache, self.v_cache)]
        o, _ = _plain(self, *leaves, dtype)
        if o.requires_grad:
            o.backward(do.to(dtype))
        return tuple(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves)


def _plain(
    built: Built, q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    plan, options = built.plan, built.options
    starts, lens = plan.query_starts.tolist(), plan.seq_lens.tolist()
    key_starts = [0] * len(lens) if plan.key_starts is None else plan.key_starts.tolist()
    group = q.shape[1] // k_cache.shape[2]
    o_parts, lse_parts = [q.new_zeros(0, q.shape[1], v_cache.shape[-1])], [q.new_zeros(q.shape[1], 0)]
    for index, num_keys in enumerate(lens):
        token = torch.arange(num_keys, device=q.device) + key_starts[index]
        block, offset = plan.block_tables[index][token // plan.block_size].long(), token % plan.block_size
        k_MHD, v_MHE = (
            _scaled(cache[block, offset].to(dtype), scales, index).repeat_interleave(group, 1)
            for cache, scales in ((k_cache, options.k_scales), (v_cache, options.v_scales))
        )
        q_NHD = q[starts[index] : starts[index + 1]]
        o, lse = _plain_request(q_NHD, k_MHD, v_MHE, options, index)
        o_parts.append(o)
        lse_parts.append(lse)
    return torch.cat(o_parts), torch.cat(lse_parts, 1)


def _scaled(x_MKD: torch.Tensor, scales: torch.Tensor | None, index: int) -> torch.Tensor:
    if scales is None:
        return x_MKD
    return x_MKD * (scales if scales.dim() == 1 else scales[index]).to(x_MKD.dtype)[:, None]


def _plain_request(
    q_NHD: torch.Tensor, k_MHD: torch.Tensor, v_MHE: torch.Tensor, options: AttentionOptions, index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype, device = q_NHD.dtype, q_NHD.device
    num_rows, num_heads, _ = q_NHD.shape
    keys_M = torch.arange(len(k_MHD), device=device)
    position_N = torch.arange(num_rows, device=device)[:, None] + len(k_MHD) - num_rows
    s = torch.einsum("nhd,mhd->hnm", q_NHD, k_MHD) * options.scale
    if options.softcap:
        s = options.softcap * torch.tanh(s / options.softcap)
    if options.alibi_slopes is not None:
        slopes = options.alibi_slopes if options.alibi_slopes.dim() == 1 else options.alibi_slopes[index]
        s = s - slopes.to(dtype)[:, None, None] * (position_N - keys_M).abs()
    if options.bias is not None:
        s = s + options.bias[index if len(options.bias) > 1 else 0, :, :num_rows, : len(k_MHD)].to(dtype)
    is_seen = torch.ones(num_rows, len(k_MHD), dtype=torch.bool, device=device)
    if options.window_left is not None:
        is_seen &= keys_M >= position_N - options.window_left
    if options.window_right is not None:
        is_seen &= keys_M <= position_N + options.window_right
    s = s.masked_fill(~is_seen, -torch.inf)
    if options.sinks is not None:
        s = torch.cat((s, options.sinks.to(dtype)[:, None, None].expand(-1, num_rows, 1)), -1)
    is_empty = (s == -torch.inf).all(-1, keepdim=True)
    p = torch.softmax(s.masked_fill(is_empty, 0.0), -1).masked_fill(is_empty, 0.0)[..., : len(k_MHD)]
    if options.dropout is not None:
        heads, rows = torch.arange(num_heads, device=device), torch.arange(num_rows, device=device)
        kept = keep_mask(options.dropout, index, heads, rows, keys_M)
        p = p * kept / (1 - options.dropout.probability)
    o = torch.einsum("hnm,mhe->nhe", p.to(dtype), v_MHE)
    return o, torch.logsumexp(s, -1) if s.shape[-1] else torch.full((num_heads, num_rows), -torch.inf, device=device)


Attend = Callable[..., None]
Differentiate = Callable[..., tuple[torch.Tensor, ...]]


def check_forward(built: Built, attend: Attend, factor: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """o within `factor` times plain torch's error at the same precision, plus 1e-5; lse within 1e-5 of its size at fp32."""
    exact_dtype = torch.float64 if built.q.dtype == torch.float32 else torch.float32
    exact_o, exact_lse = built.plain(exact_dtype)
    plain_o, plain_lse = built.plain(built.q.dtype)
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    assert_within(o, plain_o, exact_o, factor)
    assert torch.equal(lse == -torch.inf, exact_lse == -torch.inf)
    is_seen = exact_lse > -torch.inf
    if is_seen.any():
        allowed = factor * (plain_lse - exact_lse)[is_seen].abs().max() + 1e-5 * exact_lse[is_seen].abs().max().clamp(1)
        assert (lse - exact_lse)[is_seen].abs().max() <= allowed
    return o, lse


def check_backward(built: Built, attend: Attend, differentiate: Differentiate, repeats: int = 0) -> None:
    """Gradients within 3 times plain torch's error, plus 1e-5; slots that no row sees get 0; the same bits each time."""
    exact_dtype = torch.float64 if built.q.dtype == torch.float32 else torch.float32
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    generator = torch.Generator().manual_seed(1)
    do = torch.randn(o.shape, generator=generator).to(o.dtype).to(o.device)
    got = differentiate(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    exact, plain = built.plain_gradients(do, exact_dtype), built.plain_gradients(do, built.q.dtype)
    for gradient, plain_gradient, exact_gradient in zip(got, plain, exact, strict=True):
        assert_within(gradient, plain_gradient, exact_gradient, 3.0)
    for _ in range(repeats):
        again = differentiate(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))


def check_batch_invariance(built: Built, attend: Attend) -> tuple[torch.Tensor, torch.Tensor]:
    """A row has the same bits alone and beside others, with hints of their sizes and without, in tables of any width.

    Of options that are the same for every request."""
    plan, (want_o, want_lse) = built.plan, built.outputs()
    attend(built.q, built.k_cache, built.v_cache, plan, built.options, want_o, want_lse)
    most_rows, most_keys = max(built.problem.rows), max(built.problem.keys)
    changes = [{"max_query_rows": most_rows}, {"max_query_rows": most_rows, "max_keys": most_keys}]
    if built.problem.layout is Layout.PAGED:
        changes.append({"block_tables": torch.nn.functional.pad(plan.block_tables, (0, 9))})
    for change in changes:
        o, lse = built.outputs()
        attend(built.q, built.k_cache, built.v_cache, replace(plan, **change), built.options, o, lse)
        assert torch.equal(o, want_o)
        assert torch.equal(lse, want_lse)
    for index, (first, stop) in enumerate(pairwise(plan.query_starts.tolist())):
        if first == stop:
            continue
        for hints in ({}, {"max_query_rows": stop - first, "max_keys": built.problem.keys[index]}):
            alone = replace(
                plan,
                query_starts=(plan.query_starts[index : index + 2] - first),
                seq_lens=plan.seq_lens[index : index + 1],
                block_tables=plan.block_tables[index : index + 1],
                key_starts=None if plan.key_starts is None else plan.key_starts[index : index + 1],
                **hints,
            )
            o, lse = torch.empty_like(want_o[first:stop]), torch.empty_like(want_lse[:, first:stop])
            attend(built.q[first:stop], built.k_cache, built.v_cache, alone, built.options, o, lse)
            assert torch.equal(o, want_o[first:stop]), index
            assert torch.equal(lse, want_lse[:, first:stop]), index
    return want_o, want_lse


def check_chunks(built: Built, rows: tuple[int, ...], attend: Attend) -> None:
    """One request's rows have the same bits in chunks of so many, which go to the same kernel as all of them."""
    want, _ = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, want, None)
    start, end = 0, built.problem.keys[0] - sum(rows)
    for count in rows:
        end += count
        plan = replace(
            built.plan,
            query_starts=torch.tensor([0, count], dtype=torch.int32, device=want.device),
            seq_lens=torch.tensor([end], dtype=torch.int32, device=want.device),
        )
        o = torch.empty_like(want[start : start + count])
        attend(built.q[start : start + count], built.k_cache, built.v_cache, plan, built.options, o, None)
        assert torch.equal(o, want[start : start + count])
        start += count


def assert_within(got: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor, factor: float) -> None:
    assert got.shape == exact.shape
    if exact.numel() == 0:
        return
    allowed = factor * (plain.to(exact.dtype) - exact).abs().max() + 1e-5
    error = (got.to(exact.dtype) - exact).abs().max()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def with_options(problem: Problem, **options: Any) -> Problem:
    return replace(problem, options={**problem.options, **options})
