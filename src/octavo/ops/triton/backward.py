"""The launches of attention's backward pass, and the grids of its kernels, from shapes alone."""

import torch
from torch import Tensor

from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.triton.arguments import (
    Launch,
    addressable,
    cache_of,
    dropout_arguments,
    heads_of,
    keep_factor,
    plan_of,
    scoring_of,
    shape_arguments,
    statistics_of,
    window_of,
    workload_of,
)
from octavo.ops.triton.backward_kernels import delta_kernel, key_gradient_kernel, query_gradient_kernel
from octavo.ops.triton.launch_table import DeviceLimits, delta_tiles, key_gradient_tiles, padded, query_gradient_tiles


def backward_launches(
    do_THE: Tensor,
    q_THD: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    o_THE: Tensor,
    lse_HT: Tensor,
    plan: AttentionPlan,
    options: AttentionOptions,
    gradients: tuple[Tensor, Tensor, Tensor],
    limits: DeviceLimits,
    dlse_HT: Tensor | None = None,
) -> list[Launch]:
    """`reference.attention_backward` into `gradients`; which are 0 before.

    Every slot belongs to one request, so that the keys of all are no more than the slots: with their sums on the
    device, a grid of slots // tile + R tiles holds them.
    """
    num_tokens, num_heads, key_size = q_THD.shape
    num_kv_heads, value_size = v_cache.shape[2:]
    if num_tokens == 0 or num_heads == 0 or plan.num_requests == 0:
        return []
    group = num_heads // num_kv_heads
    do, q, o = (addressable(x, group) for x in (do_THE, q_THD, o_THE))
    k, v = addressable(k_cache), addressable(v_cache)
    dq, dk, dv = gradients
    delta_HT = torch.empty(num_heads, num_tokens, dtype=torch.float32, device=q.device)
    key_offsets = torch.zeros(plan.num_requests + 1, dtype=torch.int32, device=q.device)
    torch.cumsum(plan.seq_lens, 0, dtype=torch.int32, out=key_offsets[1:])
    shared = {
        "q": heads_of(q),
        "k": cache_of(k, limits),
        "v": cache_of(v, limits),
        "do": heads_of(do),
        "lse": statistics_of(lse_HT),
        "delta": statistics_of(delta_HT),
        "plan": plan_of(plan),
        "scoring": scoring_of(options),
        "window": window_of(options),
        "factor": keep_factor(options.dropout),
        "num_requests": plan.num_requests,
        **dropout_arguments(options.dropout),
    }
    workload = workload_of(q, k, options, limits)
    first = delta_tiles(value_size)
    by_rows = query_gradient_tiles(key_size, value_size, workload, limits)
    by_keys = key_gradient_tiles(key_size, value_size, workload, limits)
    row_tiles = num_tokens * group // by_rows.block_m + plan.num_requests
    key_tiles = k.shape[0] * k.shape[1] // by_keys.block_n + plan.num_requests
    return [
        Launch(
            kernel=delta_kernel,
            grid=(-(-num_tokens // first.block_m), num_heads),
            arguments={
                "do": heads_of(do),
                "o": heads_of(o),
                "dlse": statistics_of(dlse_HT),
                "delta": statistics_of(delta_HT),
                "num_tokens": num_tokens,
                "E": value_size,
                "BLOCK_M": first.block_m,
                "BLOCK_E": padded(value_size),
            },
            num_warps=first.num_warps,
            num_stages=first.num_stages,
        ),
        Launch(
            kernel=key_gradient_kernel,
            grid=(key_tiles, num_kv_heads),
            arguments={
                **shared,
                "dk": cache_of(dk, limits),
                "dv": cache_of(dv, limits),
                "key_offsets": key_offsets,
                **shape_arguments(q, v, plan, options, by_keys),
            },
            num_warps=by_keys.num_warps,
            num_stages=by_keys.num_stages,
        ),
        Launch(
            kernel=query_gradient_kernel,
            grid=(row_tiles, num_kv_heads),
            arguments={**shared, "dq": heads_of(dq), **shape_arguments(q, v, plan, options, by_rows)},
            num_warps=by_rows.num_warps,
            num_stages=by_rows.num_stages,
        ),
    ]
