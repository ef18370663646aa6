"""Attention problems of any kind, and their formula.

Legend: T tokens, H query heads, K KV heads, D key size, E value size; N rows and M keys of one request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from octavo.ops import AttentionOptions, AttentionPlan, Dropout
from octavo.ops.reference.philox import keep_mask

SCALED = (torch.float8_e4m3fn, torch.int8)
INT8_UNIT = 1 / 40
"""What an int8 of 1 stands for, before its scale."""
GAP = 2
"""Slots between the keys of requests that lie one after another."""
Randn = Callable[..., Tensor]


class Layout(Enum):
    PAGED = "paged"
    """Blocks scattered over a cache."""
    DENSE = "dense"
    """A block a request."""
    VARLEN = "varlen"
    """Requests one after another in one block."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Requests of (rows, keys), and what attention is told of them; a function in `options` makes a tensor for the problem."""

    requests: tuple[tuple[int, int], ...]
    num_kv_heads: int = 2
    group: int = 2
    key_size: int = 16
    value_size: int = 16
    layout: Layout = Layout.PAGED
    block_size: int = 16
    """Of a paged cache."""
    dtype: torch.dtype = torch.float32
    cache_dtype: torch.dtype | None = None
    """None: `dtype`."""
    scale: float = 0.3
    options: dict[str, Any] = field(default_factory=dict)
    has_hints: bool = False
    device: str = "cpu"
    seed: int = 0

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(rows for rows, _ in self.requests)

    @property
    def keys(self) -> tuple[int, ...]:
        return tuple(keys for _, keys in self.requests)

    @property
    def num_heads(self) -> int:
        return self.num_kv_heads * self.group

    def build(self) -> "Built":
        generator = torch.Generator().manual_seed(self.seed)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(self.device)

        plan = self._plan(generator)
        q = randn(sum(self.rows), self.num_heads, self.key_size).to(self.dtype)
        k_cache, v_cache = self._cache(plan, self.key_size, randn), self._cache(plan, self.value_size, randn)
        given = {name: make(self, randn) if callable(make) else make for name, make in self.options.items()}
        return Built(self, q, k_cache, v_cache, plan, AttentionOptions(**{"scale": self.scale, **given}))

    def _plan(self, generator: torch.Generator) -> AttentionPlan:
        key_starts = None
        if self.layout is Layout.VARLEN:
            ends = torch.tensor([0, *(num_keys + GAP for num_keys in self.keys)]).cumsum(0).int()
            tables, key_starts, block_size = torch.zeros(len(self.keys), 1).int(), ends[:-1], max(1, int(ends[-1]))
        else:
            block_size = self.block_size if self.layout is Layout.PAGED else max((1, *self.keys))
            counts = [-(-num_keys // block_size) for num_keys in self.keys]
            ids = torch.randperm(sum(counts) + 2, generator=generator).int() + 1  # block 0 is the null block
            tables = torch.zeros(len(counts), max(counts, default=0), dtype=torch.int32)
            for row, part in zip(tables, ids[: sum(counts)].split(counts), strict=True):
                row[: len(part)] = part
        return AttentionPlan(
            query_starts=torch.tensor([0, *self.rows]).cumsum(0).int().to(self.device),
            seq_lens=torch.tensor(self.keys, dtype=torch.int32).to(self.device),
            block_tables=tables.to(self.device),
            block_size=block_size,
            key_starts=None if key_starts is None else key_starts.to(self.device),
            max_query_rows=max(self.rows) if self.has_hints else None,
            max_keys=max(self.keys) if self.has_hints else None,
        )

    def _cache(self, plan: AttentionPlan, head_size: int, randn: Randn) -> Tensor:
        """Slots that belong to nobody, some blocks among them, are NaN, or the largest byte."""
        num_blocks = max(plan.block_tables.flatten().tolist(), default=0) + 2
        cache = torch.full((num_blocks * plan.block_size, self.num_kv_heads, head_size), torch.nan, device=self.device)
        for request, num_keys in enumerate(self.keys):
            cache[slots(plan, request)] = randn(num_keys, self.num_kv_heads, head_size)
        dtype = self.cache_dtype or self.dtype
        if dtype == torch.int8:
            cache = (cache / INT8_UNIT).round().nan_to_num(127).clamp(-127, 127)
        return cache.to(dtype).unflatten(0, (num_blocks, plan.block_size))


def slots(plan: AttentionPlan, request: int) -> Tensor:
    """Where a request's keys lie: (M,), of a cache whose blocks are put together."""
    token = torch.arange(int(plan.seq_lens[request]), device=plan.seq_lens.device)
    if plan.key_starts is not None:
        token += plan.key_starts[request]
    return plan.block_tables[request, token // plan.block_size].long() * plan.block_size + token % plan.block_size


@dataclass(frozen=True)
class Built:
    problem: Problem
    q: Tensor
    k_cache: Tensor
    v_cache: Tensor
    plan: AttentionPlan
    options: AttentionOptions

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Where attention writes: o and lse, full of what it must not leave there."""
        shape = (*self.q.shape[:2], self.v_cache.shape[-1])
        lse = torch.full((self.q.shape[1], self.q.shape[0]), torch.nan, device=self.q.device)
        return torch.full(shape, torch.nan, dtype=self.q.dtype, device=self.q.device), lse

    def alone(self, request: int) -> "Built":
        """That request without the others, in the same cache; of options that are the same for every request."""
        first, stop = self.plan.query_starts[request : request + 2].tolist()
        this = slice(request, request + 1)
        plan = replace(
            self.plan,
            query_starts=self.plan.query_starts[request : request + 2] - first,
            seq_lens=self.plan.seq_lens[this],
            block_tables=self.plan.block_tables[this],
            key_starts=None if self.plan.key_starts is None else self.plan.key_starts[this],
        )
        return replace(self, q=self.q[first:stop], plan=plan)

    def formula(self, dtype: torch.dtype, at: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """o (T, H, E) and lse (H, T) in `dtype`; where `at` is given, q, s, p and o are rounded to it on the way."""
        return _formula(self, *(x.to(dtype) for x in (self.q, self.k_cache, self.v_cache)), at)

    def gradients(self, do: Tensor, dtype: torch.dtype, at: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """dq and those of the caches, by autograd of the formula."""
        leaves = [x.to(dtype).detach().requires_grad_() for x in (self.q, self.k_cache, self.v_cache)]
        o, _ = _formula(self, *leaves, at)
        return torch.autograd.grad(o, leaves, do.to(dtype), materialize_grads=True)


def _formula(
    built: Built, q_THD: Tensor, k_cache: Tensor, v_cache: Tensor, at: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    group = q_THD.shape[1] // k_cache.shape[2]
    # Of no rows; made of q, so that there is a gradient without requests, too.
    o_parts = [q_THD[:0] @ q_THD.new_zeros(q_THD.shape[-1], v_cache.shape[-1])]
    lse_parts = [q_THD.new_zeros(q_THD.shape[1], 0)]
    for request, (first, stop) in enumerate(pairwise(built.plan.query_starts.tolist())):
        k_MHD, v_MHE = (
            _scaled(cache.flatten(0, 1)[slots(built.plan, request)], scales, request).repeat_interleave(group, 1)
            for cache, scales in ((k_cache, built.options.k_scales), (v_cache, built.options.v_scales))
        )
        o, lse = _formula_of_request(q_THD[first:stop], k_MHD, v_MHE, built.options, request, at)
        o_parts.append(o)
        lse_parts.append(lse)
    return torch.cat(o_parts), torch.cat(lse_parts, 1)


def _of_request(x: Tensor, request: int) -> Tensor:
    return x if x.dim() == 1 else x[request]


def _scaled(x_MKD: Tensor, scales: Tensor | None, request: int) -> Tensor:
    return x_MKD if scales is None else x_MKD * _of_request(scales, request).to(x_MKD.dtype)[:, None]


def _formula_of_request(
    q_NHD: Tensor, k_MHD: Tensor, v_MHE: Tensor, options: AttentionOptions, request: int, at: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    dtype, device = q_NHD.dtype, q_NHD.device

    def rounded(x: Tensor) -> Tensor:
        return x if at is None else x.to(at).to(dtype)

    num_rows, num_heads, num_keys = len(q_NHD), q_NHD.shape[1], len(k_MHD)
    heads, rows, keys = (torch.arange(count, device=device) for count in (num_heads, num_rows, num_keys))
    distance_NM = rows[:, None] + num_keys - num_rows - keys
    s = rounded(torch.einsum("nhd,mhd->hnm", rounded(q_NHD), k_MHD) * options.scale)
    if options.softcap:
        s = rounded(options.softcap * torch.tanh(s / options.softcap))
    if options.alibi_slopes is not None:
        s = s - _of_request(options.alibi_slopes, request).to(dtype)[:, None, None] * distance_NM.abs()
    if options.bias is not None:
        s = s + options.bias[request if len(options.bias) > 1 else 0, :, :num_rows, :num_keys].to(dtype)
    if options.window_left is not None:
        s = s.masked_fill(distance_NM > options.window_left, -torch.inf)
    if options.window_right is not None:
        s = s.masked_fill(-distance_NM > options.window_right, -torch.inf)
    if options.sinks is not None:
        s = torch.cat((s, options.sinks.to(dtype)[:, None, None].expand(-1, num_rows, 1)), -1)
    is_empty = (s == -torch.inf).all(-1, keepdim=True)
    p = torch.softmax(s.masked_fill(is_empty, 0.0), -1).masked_fill(is_empty, 0.0)[..., :num_keys]
    if options.dropout is not None:
        p = p * keep_mask(options.dropout, request, heads, rows, keys) / (1 - options.dropout.probability)
    o_NHE = rounded(torch.einsum("hnm,mhe->nhe", rounded(p), v_MHE))
    return o_NHE, torch.logsumexp(s, -1) if s.shape[-1] else s.new_full((num_heads, num_rows), -torch.inf)


def sinks(problem: Problem, randn: Randn) -> Tensor:
    """The first head has none: −∞."""
    return randn(problem.num_heads).index_fill(0, torch.tensor([0]), -torch.inf)


def head_slopes(problem: Problem, randn: Randn) -> Tensor:
    return randn(problem.num_heads).abs()


def request_slopes(problem: Problem, randn: Randn) -> Tensor:
    return randn(len(problem.requests), problem.num_heads).abs()


def shared_bias(problem: Problem, randn: Randn) -> Tensor:
    return randn(1, 1, max(problem.rows), max(problem.keys) + 3)


def full_bias(problem: Problem, randn: Randn) -> Tensor:
    return randn(len(problem.requests), problem.num_heads, max(problem.rows), max(problem.keys) + 3)


def head_scales(problem: Problem, randn: Randn) -> Tensor:
    return (0.5 + randn(problem.num_kv_heads).abs()) * _unit(problem)


def request_scales(problem: Problem, randn: Randn) -> Tensor:
    return (0.5 + randn(len(problem.requests), problem.num_kv_heads).abs()) * _unit(problem)


def _unit(problem: Problem) -> float:
    return INT8_UNIT if problem.cache_dtype == torch.int8 else 1.0


def with_options(problem: Problem, **options: Any) -> Problem:
    return replace(problem, options={**problem.options, **options})


def with_types(problem: Problem, dtype: torch.dtype, cache_dtype: torch.dtype) -> Problem:
    """With scales, where the cache has to have them."""
    typed = replace(problem, dtype=dtype, cache_dtype=cache_dtype)
    return with_options(typed, k_scales=request_scales, v_scales=request_scales) if cache_dtype in SCALED else typed


def problems(max_tokens: int = 70) -> st.SearchStrategy[Problem]:
    """Any problem of up to four requests."""
    lengths, window = st.integers(0, max_tokens), st.none() | st.integers(0, 60)
    return st.builds(
        Problem,
        requests=st.lists(st.tuples(lengths, lengths), min_size=1, max_size=4).map(tuple),
        num_kv_heads=st.integers(1, 3),
        group=st.integers(1, 5),
        key_size=st.integers(1, 80),
        value_size=st.integers(1, 80),
        layout=st.sampled_from(Layout),
        block_size=st.sampled_from([1, 8, 16, 48, 256]) | st.integers(1, 40),
        options=st.fixed_dictionaries(
            {
                "window_left": window,
                "window_right": window,
                "softcap": st.sampled_from([0.0, 0.0, 5.0]),
                "sinks": st.sampled_from([None, sinks]),
                "alibi_slopes": st.sampled_from([None, None, head_slopes, request_slopes]),
                "bias": st.sampled_from([None, None, shared_bias, full_bias]),
                "dropout": st.sampled_from([None, None, Dropout(probability=0.3, seed=3)]),
            }
        ),
        seed=st.integers(0, 3),
    )


CAUSAL = {"window_right": 0}
PROBLEMS = (
    Problem(requests=((5, 5), (0, 7), (3, 0), (1, 40)), options=CAUSAL),
    Problem(requests=((40, 9), (130, 300)), layout=Layout.VARLEN, options=CAUSAL),
    Problem(
        requests=((113, 203), (108, 256)), group=1, key_size=59, value_size=7, block_size=1,
        options={"window_left": 64, "window_right": 0},
    ),
    Problem(
        requests=((128, 217), (3, 799)), key_size=64, value_size=64, block_size=256,
        options={"window_left": 30, "window_right": 17},
    ),
    Problem(
        requests=((70, 70), (20, 90)), key_size=40,
        options={"window_right": 5, "softcap": 4.0, "alibi_slopes": request_slopes},
    ),
    Problem(
        requests=((70, 130),), key_size=111, value_size=128,
        options={"window_left": 0, "window_right": 0, "alibi_slopes": head_slopes, "sinks": sinks},
    ),
    Problem(requests=((33, 140), (1, 64)), key_size=32, options={"bias": full_bias}),
    Problem(
        requests=((33, 140), (1, 64)), layout=Layout.VARLEN,
        options={"bias": shared_bias, "dropout": Dropout(probability=0.25, seed=2), "window_right": 0},
    ),
    Problem(
        requests=((100, 150),), group=3, key_size=96, value_size=40,
        options={"dropout": Dropout(probability=0.5, seed=0)},
    ),
    Problem(requests=((40, 9), (3, 0)), options={**CAUSAL, "sinks": sinks}),
)  # fmt: skip
"""Each option, most of them beside others."""
