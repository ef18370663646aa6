"""Tensors and options as the kernels take them, and a launch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions, Dropout
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.triton.launch_table import MAX_BLOCK_M, MAX_BLOCK_N, DeviceLimits, Tiles, Workload, padded
from octavo.ops.triton.scores import Scoring
from octavo.ops.triton.tiles import Cache, Heads, Plan, Window

_NO_BOUND = 2**30
"""Windows as wide as this bound nothing: no request has so many keys."""
_COMPUTE = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Launch:
    """One kernel, its grid, and its arguments by name."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    num_warps: int
    num_stages: int

    def run(self) -> None:
        self.kernel[self.grid](**self._all_arguments())

    def compile(self) -> Any:
        """The kernel as it would be launched, for the current target."""
        return self.kernel.warmup(**self._all_arguments(), grid=self.grid)

    def _all_arguments(self) -> dict[str, Any]:
        return {
            **self.arguments,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


def is_addressable(x: Tensor, group: int = 1) -> bool:
    """Does each head lie in one piece, and do distances within a tile, of tokens × heads of a group or of slots, fit an int32?"""
    farthest = MAX_BLOCK_M * x.stride(0) + group * x.stride(1) if x.dim() == 3 else MAX_BLOCK_N * x.stride(1)
    return _has_dense_rows(x) and farthest + x.shape[-1] < 2**31


def addressable(x: Tensor, group: int = 1) -> Tensor:
    """`x` if its tiles can be addressed, else a copy."""
    return x if is_addressable(x, group) else x.contiguous()


def parameter(x: Tensor | None) -> Tensor | None:
    """A vector, or one a request, whose last stride is 1."""
    return x if x is None or _has_dense_rows(x) else x.contiguous()


def _has_dense_rows(x: Tensor) -> bool:
    return x.stride(-1) == 1 or x.shape[-1] == 1


def heads_of(x: Tensor) -> Heads:
    """Of (tokens, heads, size)."""
    return Heads(x, x.stride(0), x.stride(1))


def statistics_of(x_HT: Tensor | None) -> Heads:
    """Of (heads, tokens); None for none."""
    return Heads(None, 0, 0) if x_HT is None else Heads(x_HT, x_HT.stride(1), x_HT.stride(0))


def cache_of(x: Tensor, limits: DeviceLimits) -> Cache:
    """fp8 goes as bytes to a device that cannot convert it."""
    if x.dtype == torch.float8_e4m3fn and not limits.converts_fp8:
        x = x.view(torch.uint8)
    return Cache(x, x.stride(0), x.stride(1), x.stride(2))


def plan_of(plan: AttentionPlan) -> Plan:
    return Plan(plan.query_starts, plan.seq_lens, plan.block_tables, plan.block_tables.stride(0), plan.key_starts)


def window_of(options: AttentionOptions) -> Window:
    left, right = (
        None if bound is None or bound >= _NO_BOUND else bound for bound in (options.window_left, options.window_right)
    )
    return Window(left, right)


def is_plain(options: AttentionOptions) -> bool:
    """Are scores only scaled, by a number above 0?"""
    return (
        options.scale > 0
        and not options.softcap
        and options.k_scales is None
        and options.alibi_slopes is None
        and options.bias is None
    )


def scoring_of(options: AttentionOptions) -> Scoring:
    bias, slopes, k_scales = options.bias, parameter(options.alibi_slopes), parameter(options.k_scales)
    strides = (0, 0, 0, 0) if bias is None else tuple(bias.stride(i) if bias.shape[i] > 1 else 0 for i in range(4))
    return Scoring(
        scale=float(options.scale),
        softcap=float(options.softcap) if options.softcap else None,
        k_scales=k_scales,
        k_scales_stride=request_stride(k_scales),
        slopes=slopes,
        slopes_stride=request_stride(slopes),
        bias=bias,
        bias_request_stride=strides[0],
        bias_head_stride=strides[1],
        bias_row_stride=strides[2],
        bias_key_stride=strides[3],
    )


def request_stride(x: Tensor | None) -> int:
    """Of a parameter (R, heads); 0 if all requests have one."""
    return 0 if x is None or x.dim() == 1 else x.stride(0)


def dropout_arguments(dropout: Dropout | None) -> dict[str, int]:
    """Words as int32 of the same bits."""
    threshold, seed = (0, 0) if dropout is None else (dropout.threshold, dropout.seed)
    return {
        "threshold": _as_int32(threshold),
        "seed_low": _as_int32(seed),
        "seed_high": _as_int32(seed >> 32),
    }


def _as_int32(word: int) -> int:
    return ((word & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def keep_factor(dropout: Dropout | None) -> float:
    return 1.0 if dropout is None else 1 / (1 - dropout.probability)


def compute_dtype(q: Tensor, cache: Tensor) -> Any:
    """Of the products' factors: q's, if the cache has it, too, or is scaled; else fp32."""
    is_same = q.dtype == cache.dtype or cache.dtype in (torch.float8_e4m3fn, torch.int8)
    return _COMPUTE[q.dtype] if is_same else tl.float32


def workload_of(q: Tensor, cache: Tensor, options: AttentionOptions, limits: DeviceLimits) -> Workload:
    converts_bytes = cache.dtype == torch.float8_e4m3fn and not limits.converts_fp8
    return Workload(
        element_bytes=int(compute_dtype(q, cache).primitive_bitwidth) // 8,
        is_heavy=options.bias is not None or options.dropout is not None or converts_bytes,
    )


def table_block_size(plan: AttentionPlan) -> int:
    """The BLOCK_SIZE of the kernels: 0 where every request has one block, so that none is looked up key by key."""
    return 0 if plan.block_tables.shape[1] == 1 else plan.block_size


def shape_arguments(
    q_THD: Tensor, v_cache: Tensor, plan: AttentionPlan, options: AttentionOptions, tiles: Tiles
) -> dict[str, Any]:
    """The constants that all kernels over tiles of rows and keys are compiled for."""
    num_kv_heads, value_size = v_cache.shape[2:]
    return {
        "D": q_THD.shape[2],
        "E": value_size,
        "GROUP": q_THD.shape[1] // num_kv_heads,
        "BLOCK_M": tiles.block_m,
        "BLOCK_N": tiles.block_n,
        "BLOCK_D": padded(q_THD.shape[2]),
        "BLOCK_E": padded(value_size),
        "BLOCK_SIZE": table_block_size(plan),
        "IS_PLAIN": is_plain(options),
        "HAS_DROPOUT": options.dropout is not None,
    }
