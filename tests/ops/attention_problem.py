"""Attention problems of any kind, and their formula.

Legend: T tokens, H query heads, K KV heads, D key size, E value size; N rows and M keys of one request.
"""

from dataclasses import dataclass, field, replace

import torch
from hypothesis import strategies as st

from octavo.ops import AttentionOptions, AttentionPlan, Dropout
from octavo.ops.reference.philox import keep_mask

SCALED = (torch.float8_e4m3fn, torch.int8)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Requests of (rows, keys), and everything that attention can be told."""

    requests: tuple[tuple[int, int], ...]
    num_kv_heads: int = 2
    group: int = 2
    key_size: int = 16
    value_size: int = 16
    block_size: int | None = 16
    """None: keys one request after the other in one block, as `key_starts`."""
    q_dtype: torch.dtype = torch.float32
    dtype: torch.dtype = torch.float32
    scale: float = 0.3
    left: int | None = None
    right: int | None = None
    softcap: float = 0.0
    has_sinks: bool = False
    alibi: str = ""
    """heads, or requests."""
    bias: str = ""
    """one, or all."""
    dropout: float = 0.0
    seed: int = 0
    tensors: dict = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        make = torch.Generator().manual_seed(self.seed)
        rows, requests = sum(n for n, _ in self.requests), len(self.requests)
        t = self.tensors
        t["q"] = torch.randn(rows, self.num_heads, self.key_size, generator=make).to(self.q_dtype)
        t["keys"] = [
            self._stored(torch.randn(m, self.num_kv_heads, self.key_size, generator=make)) for _, m in self.requests
        ]
        t["values"] = [
            self._stored(torch.randn(m, self.num_kv_heads, self.value_size, generator=make)) for _, m in self.requests
        ]
        t["sinks"] = torch.randn(self.num_heads, generator=make) if self.has_sinks else None
        slopes = torch.rand(requests, self.num_heads, generator=make)
        t["slopes"] = {"": None, "heads": slopes[0] if requests else torch.zeros(self.num_heads), "requests": slopes}[
            self.alibi
        ]
        shape = (1, 1) if self.bias == "one" else (requests, self.num_heads)
        longest = [max((r[i] for r in self.requests), default=0) for i in (0, 1)]
        t["bias"] = torch.randn(*shape, longest[0], longest[1] + 3, generator=make) if self.bias else None
        t["scales"] = [torch.rand(requests, self.num_kv_heads, generator=make) + 0.5 for _ in range(2)]

    @property
    def num_heads(self) -> int:
        return self.num_kv_heads * self.group

    def _stored(self, x: torch.Tensor) -> torch.Tensor:
        return (30 * x).round().clamp(-127, 127).to(self.dtype) if self.dtype == torch.int8 else x.to(self.dtype)

    def options(self) -> AttentionOptions:
        t = self.tensors
        is_scaled = self.dtype in SCALED
        return AttentionOptions(
            scale=self.scale,
            window_left=self.left,
            window_right=self.right,
            softcap=self.softcap,
            alibi_slopes=t["slopes"],
            bias=t["bias"],
            sinks=t["sinks"],
            k_scales=t["scales"][0] if is_scaled else None,
            v_scales=t["scales"][1] if is_scaled else None,
            dropout=Dropout(probability=self.dropout, seed=self.seed) if self.dropout else None,
        )

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, AttentionPlan]:
        """q, k_cache, v_cache and the plan; slots that belong to nobody are NaN, or the largest byte."""
        starts = torch.tensor([0, *(n for n, _ in self.requests)]).cumsum(0).int()
        lens = torch.tensor([m for _, m in self.requests], dtype=torch.int32)
        if self.block_size is None:
            gap = 2  # between requests
            key_starts = torch.tensor([0, *(m + gap for _, m in self.requests)]).cumsum(0)[:-1].int()
            total = max(1, int(lens.sum()) + gap * len(self.requests))
            k_cache, v_cache = self._cache(1, total, self.key_size), self._cache(1, total, self.value_size)
            for start, k, v in zip(key_starts, self.tensors["keys"], self.tensors["values"], strict=True):
                k_cache[0, start : start + len(k)] = k
                v_cache[0, start : start + len(v)] = v
            tables = torch.zeros(len(self.requests), 1, dtype=torch.int32)
            plan = AttentionPlan(
                query_starts=starts, seq_lens=lens, block_tables=tables, block_size=total, key_starts=key_starts
            )
            return self.tensors["q"], k_cache, v_cache, plan
        needed = [-(-m // self.block_size) for _, m in self.requests]
        total = sum(needed) + 3
        order = (torch.randperm(total - 1, generator=torch.Generator().manual_seed(self.seed)) + 1).int()
        tables = torch.zeros(len(self.requests), max([*needed, 1]), dtype=torch.int32)
        k_cache = self._cache(total, self.block_size, self.key_size)
        v_cache = self._cache(total, self.block_size, self.value_size)
        used = 0
        for r, (count, k, v) in enumerate(zip(needed, self.tensors["keys"], self.tensors["values"], strict=True)):
            tables[r, :count] = order[used : used + count]
            used += count
            at = torch.arange(len(k))
            block, offset = tables[r, at // self.block_size].long(), at % self.block_size
            k_cache[block, offset], v_cache[block, offset] = k, v
        plan = AttentionPlan(query_starts=starts, seq_lens=lens, block_tables=tables, block_size=self.block_size)
        return self.tensors["q"], k_cache, v_cache, plan

    def _cache(self, blocks: int, size: int, head_size: int) -> torch.Tensor:
        if self.dtype == torch.int8:
            return torch.full((blocks, size, self.num_kv_heads, head_size), 127, dtype=torch.int8)
        return torch.full((blocks, size, self.num_kv_heads, head_size), torch.nan).to(self.dtype)

    def formula(self, dtype: torch.dtype, at: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """o (T, H, E) and lse (H, T) in `dtype`; where `at` is given, q, p and o are rounded to it on the way."""

        def rounded(x: torch.Tensor) -> torch.Tensor:
            return x if at is None else x.to(at).to(dtype)

        outputs, lses, row = [], [], 0
        for r, (n, m) in enumerate(self.requests):
            q = rounded(self.tensors["q"][row : row + n].to(dtype))
            row += n
            k, v = (self.tensors[name][r].to(dtype) for name in ("keys", "values"))
            if self.dtype in SCALED:
                k, v = (x * s[r].to(dtype)[:, None] for x, s in zip((k, v), self.tensors["scales"], strict=True))
            s = rounded(torch.einsum("nhd,mhd->hnm", q, k.repeat_interleave(self.group, 1)) * self.scale)
            if self.softcap:
                s = rounded(self.softcap * torch.tanh(s / self.softcap))
            distance = torch.arange(n)[:, None] + m - n - torch.arange(m)
            if self.alibi:
                slopes = self.tensors["slopes"] if self.alibi == "heads" else self.tensors["slopes"][r]
                s = s - slopes.to(dtype)[:, None, None] * distance.abs()
            if self.bias:
                s = s + self.tensors["bias"][0 if self.bias == "one" else r][:, :n, :m].to(dtype)
            hidden = torch.zeros(n, m, dtype=torch.bool)
            if self.left is not None:
                hidden |= distance > self.left
            if self.right is not None:
                hidden |= -distance > self.right
            s = s.masked_fill(hidden, -torch.inf)
            if self.has_sinks:
                s = torch.cat((s, self.tensors["sinks"].to(dtype)[:, None, None].expand(-1, n, 1)), -1)
            lse = torch.logsumexp(s, -1) if s.shape[-1] else torch.full((self.num_heads, n), -torch.inf, dtype=dtype)
            p = torch.where(lse[..., None] == -torch.inf, 0.0, torch.exp(s - lse[..., None]))[..., :m]
            if self.dropout:
                heads, rows, keys = torch.arange(self.num_heads), torch.arange(n), torch.arange(m)
                mask = keep_mask(Dropout(probability=self.dropout, seed=self.seed), r, heads, rows, keys)
                p = p * mask / (1 - self.dropout)
            outputs.append(rounded(torch.einsum("hnm,mhe->nhe", rounded(p), v.repeat_interleave(self.group, 1))))
            lses.append(lse)
        none = torch.zeros(0, self.num_heads, self.value_size, dtype=dtype)
        return torch.cat([none, *outputs]), torch.cat([none[..., 0].T, *lses], 1)


def problems(max_tokens: int = 70) -> st.SearchStrategy[Problem]:
    """Any problem of up to three requests."""
    lengths = st.integers(0, max_tokens)
    return st.builds(
        Problem,
        requests=st.lists(st.tuples(lengths, lengths), min_size=1, max_size=3).map(tuple),
        num_kv_heads=st.integers(1, 3),
        group=st.integers(1, 4),
        key_size=st.integers(1, 80),
        value_size=st.integers(1, 80),
        block_size=st.sampled_from([None, 1, 8, 16, 48, 256]),
        left=st.none() | st.integers(0, 60),
        right=st.none() | st.integers(0, 60),
        softcap=st.sampled_from([0.0, 0.0, 5.0]),
        has_sinks=st.booleans(),
        alibi=st.sampled_from(["", "", "heads", "requests"]),
        bias=st.sampled_from(["", "", "one", "all"]),
        dropout=st.sampled_from([0.0, 0.0, 0.3]),
        seed=st.integers(0, 3),
    )


def with_types(problem: Problem, q_dtype: torch.dtype, dtype: torch.dtype) -> Problem:
    return replace(problem, q_dtype=q_dtype, dtype=dtype, tensors={})


PROBLEMS = (
    Problem(requests=((5, 5), (0, 7), (3, 0), (1, 40)), right=0),
    Problem(requests=((40, 9), (130, 300)), right=0, block_size=None),
    Problem(requests=((113, 203), (108, 256)), left=64, right=0, group=1, key_size=59, value_size=7, block_size=1),
    Problem(requests=((128, 217), (3, 799)), left=30, right=17, key_size=64, value_size=64, block_size=256),
    Problem(requests=((70, 70), (20, 90)), right=5, softcap=4.0, alibi="requests", key_size=40),
    Problem(requests=((70, 130),), left=0, right=0, alibi="heads", has_sinks=True, key_size=111, value_size=128),
    Problem(requests=((33, 140), (1, 64)), bias="all", key_size=32),
    Problem(requests=((33, 140), (1, 64)), bias="one", right=0, dropout=0.25, block_size=None, seed=2),
    Problem(requests=((100, 150),), dropout=0.5, group=3, key_size=96, value_size=40),
)
"""Each option, most of them beside others."""
