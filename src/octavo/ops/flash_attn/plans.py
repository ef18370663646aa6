"""From batches, cumulative lengths and block tables to attention plans: the checks that need values.

They are made on a CPU only: on a GPU they would wait for the device, so that a wrong value there is undefined behaviour.

Legend: R requests, S rows or keys of each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.checks import MAX_INT32, shown
from octavo.ops.errors import OpArgumentError


def dense_plan(num_requests: int, num_rows: int, num_keys: int, device: torch.device) -> AttentionPlan:
    """Every request has as many rows and keys; its keys are the block of its number."""
    for name, what, size in (("q", "rows", num_requests * num_rows), ("k", "keys", num_keys)):
        if size > MAX_INT32:
            raise OpArgumentError(f"{name}'s {what}: got {size}; allowed up to {MAX_INT32}; cut the batch", param=name)
    requests = torch.arange(num_requests + 1, dtype=torch.int32, device=device)
    return AttentionPlan(
        query_starts=requests * num_rows,
        seq_lens=torch.full((num_requests,), num_keys, dtype=torch.int32, device=device),
        block_tables=requests[:num_requests, None],
        block_size=num_keys,
        max_query_rows=num_rows,
        max_keys=num_keys,
    )


@dataclass(frozen=True, slots=True)
class Ragged:
    """Requests of different lengths: the arguments of a varlen function that are integers."""

    cu_seqlens_q: Tensor
    cu_seqlens_k: Tensor | None
    seqused_k: Tensor | None
    block_table: Tensor | None
    max_seqlen_q: int
    max_seqlen_k: int

    def plan(self, num_rows: int, k: Tensor) -> AttentionPlan | None:
        """k is (total, K, D), or with a block table (num_blocks, block_size, K, D). None: there is nothing to attend to."""
        check_starts("cu_seqlens_q", self.cu_seqlens_q, num_rows)
        query_lens = self.cu_seqlens_q.diff()
        check_longest("max_seqlen_q", query_lens, self.max_seqlen_q)
        seq_lens = self._seq_lens(k.shape[0] if self.block_table is None else None)
        check_longest("max_seqlen_k", seq_lens, self.max_seqlen_k)
        if self.block_table is not None:
            cache = CacheIndex(tables=self.block_table, num_blocks=k.shape[0], block_size=k.shape[1])
            cache.check_capacity("seqused_k or cu_seqlens_k", seq_lens)
            return cache.plan(
                self.cu_seqlens_q,
                seq_lens,
                None,
                max_query_rows=self.max_seqlen_q,
                max_keys=self.max_seqlen_k,
            )
        assert self.cu_seqlens_k is not None
        if len(seq_lens) == 0 or k.shape[0] == 0:
            return None
        return AttentionPlan(
            query_starts=int32("cu_seqlens_q", self.cu_seqlens_q),
            seq_lens=seq_lens.int(),
            block_tables=torch.zeros(len(seq_lens), 1, dtype=torch.int32, device=k.device),
            block_size=k.shape[0],
            key_starts=int32("cu_seqlens_k", self.cu_seqlens_k)[:-1],
            max_query_rows=self.max_seqlen_q,
            max_keys=self.max_seqlen_k,
        )

    def _seq_lens(self, num_keys: int | None) -> Tensor:
        """Keys of each request; `seqused_k` where that is given."""
        if self.cu_seqlens_k is None:
            assert self.seqused_k is not None
            _check_range("seqused_k", self.seqused_k, 0, None)
            return self.seqused_k
        check_starts("cu_seqlens_k", self.cu_seqlens_k, num_keys)
        seq_lens = self.cu_seqlens_k.diff()
        if self.seqused_k is None:
            return seq_lens
        _check_range("seqused_k", self.seqused_k, 0, None)
        if _has_values(seq_lens) and bool((self.seqused_k > seq_lens).any()):
            raise OpArgumentError(
                f"seqused_k: got {shown(self.seqused_k.tolist())}; allowed at most cu_seqlens_k's lengths "
                f"{shown(seq_lens.tolist())}",
                param="seqused_k",
            )
        return self.seqused_k


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheIndex:
    """Where the tokens of each request lie in a cache: token p in block tables[r, p // block_size]."""

    tables: Tensor
    num_blocks: int
    block_size: int
    name: str = "block_table"

    @property
    def capacity(self) -> int:
        """Tokens that a table has blocks for."""
        return self.tables.shape[1] * self.block_size if self.num_blocks else 0

    def check_capacity(self, name: str, ends: Tensor) -> None:
        if _has_values(ends) and int(ends.max()) > self.capacity:
            raise OpArgumentError(
                f"{name}: got {int(ends.max())} keys; allowed up to {self.capacity}, which a request's blocks of "
                f"{self.block_size} hold; give more blocks to the request",
                param=name,
            )

    def plan(
        self,
        query_starts: Tensor,
        ends: Tensor,
        key_starts: Tensor | None,
        *,
        max_query_rows: int,
        max_keys: int,
    ) -> AttentionPlan | None:
        """Request r's keys are the tokens key_starts[r] … ends[r] − 1 of its table; entries of other blocks may be anything.

        The tables have blocks for them, and no request has more rows or keys than the two maxima. None: there is nothing to attend to.
        """
        first = torch.zeros_like(ends) if key_starts is None else key_starts
        if len(ends) == 0 or self.capacity == 0:
            return None
        return AttentionPlan(
            query_starts=int32("cu_seqlens_q", query_starts),
            seq_lens=(int32("cache_seqlens", ends) - first).int(),
            block_tables=self._used(first, ends),
            block_size=self.block_size,
            key_starts=None if key_starts is None else int32("cache_leftpad", key_starts),
            max_query_rows=max_query_rows,
            max_keys=min(max_keys, self.capacity),
        )

    def new_slots(self, first: Tensor | None, lens: Tensor, num_new: int) -> Tensor:
        """int64 (R, num_new): where the tokens behind first … lens − 1 of each request lie, or `OpArgumentError`.

        A block that is written belongs to one place of one table: else a request would write over another's tokens.
        """
        tokens = lens.long()[:, None] + torch.arange(num_new, device=lens.device)
        block = self.tables.long().gather(1, tokens // self.block_size)
        if _has_values(block):
            first = torch.zeros_like(lens) if first is None else first
            used = self.tables[self._is_used(first, lens.long() + num_new)].long().sort().values
            if bool(torch.isin(block, used[1:][used[1:] == used[:-1]]).any()):
                raise OpArgumentError(
                    f"{self.name}: got one part of the cache for the new tokens of one request and for another's tokens; "
                    "allowed one request for each that is written; copy it first",
                    param=self.name,
                )
        return block * self.block_size + tokens % self.block_size

    def _is_used(self, first: Tensor, ends: Tensor) -> Tensor:
        """Which entries of the tables hold a request's tokens first … ends − 1."""
        column = torch.arange(self.tables.shape[1], device=ends.device)
        is_used = (column >= (first // self.block_size)[:, None]) & (column * self.block_size < ends[:, None])
        return is_used & (first < ends)[:, None]

    def _used(self, first: Tensor, ends: Tensor) -> Tensor:
        """The tables with 0 for what no key lies in."""
        tables = torch.where(self._is_used(first, ends), self.tables, 0)
        _check_range(self.name, tables, 0, self.num_blocks - 1)
        return int32(self.name, tables)


def check_cache_lengths(cache_seqlens: Tensor, num_new: int, cache_leftpad: Tensor | None, cache: CacheIndex) -> None:
    """0 ≤ leftpad ≤ length, and room for the new tokens."""
    _check_range("cache_seqlens", cache_seqlens, 0, None)
    if not _has_values(cache_seqlens):
        return
    longest = int(cache_seqlens.max())
    if longest + num_new > cache.capacity:
        raise OpArgumentError(
            f"cache_seqlens: got {longest}, and {num_new} new keys; allowed {cache.capacity} together, as the cache holds; "
            "make it longer, or its block table wider",
            param="cache_seqlens",
        )
    if cache_leftpad is not None and bool(((cache_leftpad < 0) | (cache_leftpad > cache_seqlens)).any()):
        raise OpArgumentError(
            f"cache_leftpad: got {shown(cache_leftpad.tolist())}; allowed 0 up to cache_seqlens "
            f"{shown(cache_seqlens.tolist())}",
            param="cache_leftpad",
        )


def check_positions(cache_seqlens: Tensor, num_positions: int, num_rows: int) -> None:
    """Is there a row of rotary_cos and rotary_sin for every position?"""
    if not _has_values(cache_seqlens):
        return
    last = int(cache_seqlens.max()) + num_positions - 1
    if last >= num_rows:
        raise OpArgumentError(
            f"rotary_cos: got {num_rows} positions; allowed {last + 1} or more, since that many are rotated to",
            param="rotary_cos",
        )


def check_scale_values(name: str, scales: Tensor) -> None:
    if _has_values(scales) and not bool(((scales > 0) & scales.isfinite()).all()):
        raise OpArgumentError(
            f"{name}: got {shown(scales.flatten().tolist())}; allowed finite numbers above 0", param=name
        )


def check_starts(name: str, starts: Tensor, total: int | None) -> None:
    """From 0, never falling, up to `total`."""
    if not _has_values(starts):
        return
    if int(starts[0]) != 0 or bool((starts[1:] < starts[:-1]).any()):
        raise OpArgumentError(f"{name}: got {shown(starts.tolist())}; allowed rising numbers from 0 on", param=name)
    if total is not None and int(starts[-1]) > total:
        raise OpArgumentError(f"{name}: got {int(starts[-1])} at its end; allowed up to {total}, all rows", param=name)


def int32(name: str, x: Tensor) -> Tensor:
    """As the kernels read it, with no value changed."""
    _check_range(name, x, -(1 << 31), MAX_INT32)
    return x.int()


def _has_values(x: Tensor) -> bool:
    """May they be looked at, and are there any?"""
    return x.device.type == "cpu" and x.numel() > 0


def _check_range(name: str, x: Tensor, lowest: int, highest: int | None) -> None:
    if not _has_values(x):
        return
    low, high = int(x.min()), int(x.max())
    if low < lowest or (highest is not None and high > highest):
        worst = low if low < lowest else high
        allowed = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise OpArgumentError(f"{name} is out of range: got {worst}; allowed {allowed}", param=name)


def check_longest(name: str, lens: Tensor, longest: int) -> None:
    if _has_values(lens) and int(lens.max()) > longest:
        raise OpArgumentError(
            f"{name}: got {longest}; allowed {int(lens.max())} or more, the longest request's", param=name
        )
