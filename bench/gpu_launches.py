"""Launches of every kernel of attention, of tensors on a CPU: to be compiled for a GPU that is not there."""

import torch

from octavo.ops import AttentionOptions, AttentionPlan
from octavo.ops.triton.arguments import Launch
from octavo.ops.triton.backward import backward_launches
from octavo.ops.triton.forward import forward_launches
from octavo.ops.triton.launch_table import DeviceLimits

TOKENS = 1024
BLOCK_SIZE = 16
NUM_HEADS, NUM_KV_HEADS = 8, 2


def plan(rows: int, *, is_paged: bool) -> AttentionPlan:
    blocks = TOKENS // BLOCK_SIZE if is_paged else 1
    return AttentionPlan(
        query_starts=torch.tensor([0, rows], dtype=torch.int32),
        seq_lens=torch.tensor([TOKENS], dtype=torch.int32),
        block_tables=torch.arange(blocks, dtype=torch.int32)[None],
        block_size=TOKENS // blocks,
        max_query_rows=rows,
    )


def launches(size: int, dtype: torch.dtype, limits: DeviceLimits, *, is_causal: bool) -> list[tuple[str, Launch]]:
    """Of a prompt, dense and paged, its backward pass, and a decode: with what it is."""
    options = AttentionOptions(scale=1.0, window_right=0 if is_causal else None)
    found = []
    for what, rows, is_paged in (("prompt", TOKENS, False), ("paged prompt", TOKENS, True), ("decode", 1, True)):
        own = plan(rows, is_paged=is_paged)
        q, o = (torch.empty(rows, NUM_HEADS, size, dtype=dtype) for _ in range(2))
        cache = torch.empty(TOKENS // own.block_size, own.block_size, NUM_KV_HEADS, size, dtype=dtype)
        lse = torch.empty(NUM_HEADS, rows)
        found += [(what, launch) for launch in forward_launches(q, cache, cache, own, options, o, lse, limits)]
        if what == "prompt":
            backward = backward_launches(o, q, cache, cache, o, lse, own, options, (q, cache, cache), limits)
            found += [("backward", launch) for launch in backward]
    return found
