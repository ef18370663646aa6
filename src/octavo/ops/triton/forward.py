"""The launches of attention's forward pass, and the grids of its kernels, from shapes alone.

Requests of few rows go to the kernels that split keys, others to the one that does not: what a row meets depends on its request
only. Where the sizes of requests are not known here, both are launched, and each passes over the other's requests.
"""

from typing import Any

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.triton.arguments import (
    Launch,
    addressable,
    cache_of,
    compute_dtype,
    dropout_arguments,
    heads_of,
    keep_factor,
    parameter,
    plan_of,
    request_stride,
    scoring_of,
    shape_arguments,
    statistics_of,
    window_of,
    workload_of,
)
from octavo.ops.triton.forward_kernels import forward_kernel, merge_kernel, split_kernel
from octavo.ops.triton.launch_table import (
    SPLIT_KEYS,
    SPLIT_ROWS,
    DeviceLimits,
    Workload,
    forward_tiles,
    merge_warps,
    split_tiles,
)

_MAX_PARTS_BYTES = 128 << 20
"""Of the sums that wait for their merge; more requests take turns."""
_MAX_GRID = 65535
"""Along the second and third axis."""


def forward_launches(
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    o_THE: Tensor,
    lse_HT: Tensor | None,
    limits: DeviceLimits,
) -> list[Launch]:
    """`reference.paged_attention`; o is addressable."""
    num_tokens, num_heads, _ = q_THD.shape
    if num_tokens == 0 or num_heads == 0 or plan.num_requests == 0:
        return []
    most_rows = num_tokens if plan.max_query_rows is None else min(num_tokens, plan.max_query_rows)
    is_uniform = most_rows * plan.num_requests == num_tokens
    group = num_heads // k_cache.shape[2]
    q, k, v = addressable(q_THD, group), addressable(k_cache), addressable(v_cache)
    shared = {
        "q": heads_of(q),
        "k": cache_of(k, limits),
        "v": cache_of(v, limits),
        "scoring": scoring_of(options),
        **_output_arguments(o_THE, lse_HT, plan, options),
        **dropout_arguments(options.dropout),
        "COMPUTE": compute_dtype(q, k),
    }
    workload = workload_of(q, k, options, limits)
    launches = []
    if most_rows > SPLIT_ROWS:
        tiles = forward_tiles(q.shape[2], v.shape[3], workload, limits)
        constants = shape_arguments(q, v, plan, options, tiles)
        num_tiles = num_tokens * group // tiles.block_m + plan.num_requests
        launches.append(
            Launch(
                kernel=forward_kernel,
                grid=(num_tiles, k.shape[2]),
                arguments={
                    **shared,
                    "num_requests": plan.num_requests,
                    "min_rows": 0 if is_uniform else SPLIT_ROWS + 1,
                    **constants,
                },
                num_warps=tiles.num_warps,
                num_stages=tiles.num_stages,
            )
        )
    if most_rows <= SPLIT_ROWS or not is_uniform:
        launches += _split_launches(q, k, v, plan, options, shared, min(most_rows, SPLIT_ROWS), workload)
    return launches


def _split_launches(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    shared: dict[str, Any],
    max_rows: int,
    workload: Workload,
) -> list[Launch]:
    num_kv_heads, value_size = v.shape[2:]
    group = q.shape[1] // num_kv_heads
    tiles = split_tiles(q.shape[2], value_size, workload, group)
    constants = shape_arguments(q, v, plan, options, tiles)
    num_tiles = -(-max_rows * group // tiles.block_m)
    num_splits = max(1, -(-_most_keys(plan) // SPLIT_KEYS))
    folded = num_kv_heads * max_rows * group
    requests = min(plan.num_requests, _MAX_GRID)
    parts = statistics = None
    if num_splits > 1:
        requests = max(1, min(requests, _MAX_PARTS_BYTES // (folded * num_splits * (value_size + 2) * 4)))
        parts = torch.empty(requests * folded * num_splits * value_size, dtype=torch.float32, device=q.device)
        statistics = torch.empty(requests * folded * num_splits * 2, dtype=torch.float32, device=q.device)
    launches = []
    for first in range(0, plan.num_requests, requests):
        count = min(requests, plan.num_requests - first)
        merging = {
            "first_request": first,
            "max_rows": max_rows,
            "parts": parts,
            "statistics": statistics,
            "num_splits": num_splits,
            "SPLIT": SPLIT_KEYS,
        }
        launches.append(
            Launch(
                kernel=split_kernel,
                grid=(num_splits * num_tiles, num_kv_heads, count),
                arguments={**shared, **merging, **constants},
                num_warps=tiles.num_warps,
                num_stages=tiles.num_stages,
            )
        )
        if parts is not None:
            launches.append(
                Launch(
                    kernel=merge_kernel,
                    grid=(max_rows * group, num_kv_heads, count),
                    arguments={
                        **{name: shared[name] for name in _OUTPUT_ARGUMENTS},
                        **merging,
                        **{name: constants[name] for name in ("E", "GROUP", "BLOCK_E")},
                    },
                    num_warps=merge_warps(value_size),
                    num_stages=1,
                )
            )
    return launches


_OUTPUT_ARGUMENTS = ("o", "lse", "plan", "window", "sinks", "v_scales", "v_scales_stride", "factor")


def _output_arguments(
    o_THE: Tensor, lse_HT: Tensor | None, plan: AttentionPlan, options: AttentionOptions
) -> dict[str, Any]:
    """What a kernel takes that has results."""
    v_scales = parameter(options.v_scales)
    return {
        "o": heads_of(o_THE),
        "lse": statistics_of(lse_HT),
        "plan": plan_of(plan),
        "window": window_of(options),
        "sinks": parameter(options.sinks),
        "v_scales": v_scales,
        "v_scales_stride": request_stride(v_scales),
        "factor": keep_factor(options.dropout),
    }


def _most_keys(plan: AttentionPlan) -> int:
    """No request has more."""
    room = plan.block_tables.shape[1] * plan.block_size
    return room if plan.max_keys is None else min(room, plan.max_keys)
