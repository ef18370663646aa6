"""`torch.ops.octavo.flash_attn_kvcache`, and its form that first writes new keys and values to the cache.

Legend: B batch, S rows, N new keys, H query heads, K KV heads, D key size, E value size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from octavo.ops.attention import store_kv
from octavo.ops.checks import check_apart, check_distinct_memory
from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn.attend import Problem
from octavo.ops.flash_attn.plans import CacheIndex, check_cache_lengths, check_positions, check_scale_values
from octavo.ops.flash_attn.rotary import rotate
from octavo.ops.flash_attn.settings import Settings


@custom_op("octavo::flash_attn_kvcache", mutates_args=())
def flash_attn_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cache_seqlens: Tensor,
    longest: int | None,
    cache_batch_idx: Tensor | None,
    cache_leftpad: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    k_descale: Tensor | None,
    v_descale: Tensor | None,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    """(B, S, H, E) of q's dtype, and the log-sum-exp, fp32 (H, B·S), over the first cache_seqlens keys of each request, which
    are `longest` at most."""
    which = cache_batch_idx, cache_leftpad, block_table
    cache = _Cache(k_cache, v_cache, cache_seqlens, longest, *which, k_descale, v_descale)
    settings = Settings(scale, window_left, window_right, softcap)
    return _attend(q, cache.problem(q, 0, settings, alibi_slopes))


@flash_attn_kvcache.register_fake
def _(q: Tensor, k_cache: Tensor, v_cache: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _fake(q, v_cache)


@custom_op("octavo::flash_attn_append_kvcache", mutates_args=("k_cache", "v_cache"))
def flash_attn_append_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor,
    v: Tensor,
    rotary_cos: Tensor | None,
    rotary_sin: Tensor | None,
    cache_seqlens: Tensor,
    longest: int | None,
    cache_batch_idx: Tensor | None,
    cache_leftpad: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    k_descale: Tensor | None,
    v_descale: Tensor | None,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    rotary_interleaved: bool,
) -> tuple[Tensor, Tensor]:
    """`flash_attn_kvcache` after k (B, N, K, D), rotated, and v (B, N, K, E) were written behind the first cache_seqlens keys.

    Nothing is written where an argument is wrong.
    """
    which = cache_batch_idx, cache_leftpad, block_table
    cache = _Cache(k_cache, v_cache, cache_seqlens, longest, *which, k_descale, v_descale)
    cache.check_is_writable()
    check_apart("k_cache", k_cache, q=q, k=k, v=v)
    check_apart("v_cache", v_cache, q=q, k=k, v=v)
    settings = Settings(scale, window_left, window_right, softcap)
    num_rows, num_new = q.shape[1], k.shape[1]
    problem = cache.problem(q, num_new, settings, alibi_slopes)
    slots = cache.index.new_slots(cache_leftpad, cache_seqlens, num_new).flatten()
    if rotary_cos is not None and rotary_sin is not None:
        row_step = 1 if settings.is_local else 0
        num_positions = max(num_new, (num_rows - 1) * row_step + 1 if num_rows else 0)
        check_positions(cache_seqlens, num_positions, rotary_cos.shape[0])
        first = cache_seqlens.long()[:, None]
        row_positions = first + torch.arange(num_rows, device=q.device) * row_step
        q = rotate(q, rotary_cos, rotary_sin, row_positions, rotary_interleaved)
        new_positions = first + torch.arange(num_new, device=q.device)
        k = rotate(k, rotary_cos, rotary_sin, new_positions, rotary_interleaved)
    cache.append(k, v, slots)
    return _attend(q, problem)


@flash_attn_append_kvcache.register_fake
def _(q: Tensor, k_cache: Tensor, v_cache: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _fake(q, v_cache)


@dataclass(frozen=True, slots=True, eq=False)
class _Cache:
    """The cache's arguments, in the operators' order: whose tokens lie where."""

    k: Tensor
    v: Tensor
    seqlens: Tensor
    longest: int | None
    """No length is greater; None: unknown."""
    batch_idx: Tensor | None
    leftpad: Tensor | None
    block_table: Tensor | None
    k_descale: Tensor | None
    v_descale: Tensor | None

    @property
    def index(self) -> CacheIndex:
        """Without a block table, a request's tokens are one block: its row of the cache."""
        num_blocks, block_size = self.k.shape[:2]
        if self.block_table is not None:
            return CacheIndex(tables=self.block_table, num_blocks=num_blocks, block_size=block_size)
        rows = torch.arange(len(self.seqlens), device=self.k.device) if self.batch_idx is None else self.batch_idx
        return CacheIndex(tables=rows[:, None], num_blocks=num_blocks, block_size=block_size, name="cache_batch_idx")

    def problem(self, q: Tensor, num_new: int, settings: Settings, alibi_slopes: Tensor | None) -> Problem:
        """Raises `OpArgumentError` for wrong lengths, blocks or scales."""
        num_requests, num_rows, _, _ = q.shape
        index = self.index
        check_cache_lengths(self.seqlens, num_new, self.leftpad, index)
        for name, scales in (("k_descale", self.k_descale), ("v_descale", self.v_descale)):
            if scales is not None:
                check_scale_values(name, scales)
        plan = index.plan(
            torch.arange(num_requests + 1, device=q.device) * num_rows,
            self.seqlens.long() + num_new,
            self.leftpad,
            max_query_rows=num_rows,
            max_keys=index.capacity if self.longest is None else self.longest + num_new,
        )
        return Problem(
            k_cache=self.k,
            v_cache=self.v,
            plan=plan,
            options=settings.options(alibi_slopes, None, self.k_descale, self.v_descale),
            num_rows=num_requests * num_rows,
        )

    def check_is_writable(self) -> None:
        """Does every element have memory of its own? Else what is written to one would be read from another."""
        for name, cache in (("k_cache", self.k), ("v_cache", self.v)):
            check_distinct_memory(name, cache)
        if self.k.data_ptr() == self.v.data_ptr() and self.k.numel() > 0:
            raise OpArgumentError(
                "v_cache: got k_cache's memory, for new keys; allowed memory of its own; clone it", param="v_cache"
            )

    def append(self, k: Tensor, v: Tensor, slots: Tensor) -> None:
        """Writes k and v to the slots, in place."""
        k, k_scales = _scaled_by_head(k, self.k_descale)
        v, v_scales = _scaled_by_head(v, self.v_descale)
        store_kv(k.flatten(0, 1), v.flatten(0, 1), self.k, self.v, slots, k_scales, v_scales)


def _scaled_by_head(x: Tensor, descale: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x and scales (K,): one of each request and head is divided by beforehand, which gives the same bits."""
    if descale is None or descale.dim() == 1:
        return x, descale
    return x.float() / descale[:, None, :, None], torch.ones_like(descale[0])


def _attend(q: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    out, lse = problem.forward(q.flatten(0, 1))
    return out.unflatten(0, q.shape[:2]), lse


def _fake(q: Tensor, v_cache: Tensor) -> tuple[Tensor, Tensor]:
    num_requests, num_rows, num_heads, _ = q.shape
    out = q.new_empty(num_requests, num_rows, num_heads, v_cache.shape[-1])
    return out, q.new_empty(num_heads, num_requests * num_rows, dtype=torch.float32)
