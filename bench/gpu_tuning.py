"""Looks for better tiles than those of octavo.ops.triton.launch_table, on this machine's GPU.

    python bench/gpu_tuning.py [--json FILE] [--seconds S] [--sizes 64,128,256]

For each kernel the time with each choice of block sizes, warps and stages that fits, beside the table's: bf16, 8k tokens for
the forward and backward kernels, 16 requests of 8k keys for splits, there also of other sizes. It changes nothing.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_attention import Dense, machine, require_gpu
from timing import summary, timed_on_gpu
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from octavo import ops
from octavo.ops import AttentionOptions, AttentionPlan
from octavo.ops.triton import backward, forward
from octavo.ops.triton.launch_table import SPLIT_KEYS, Tiles

TOKENS = 8192
HIDDEN_SIZE = 2048
CHOICES = [Tiles(*each) for each in product((32, 64, 128), (32, 64, 128), (4, 8), (1, 2, 3, 4))]
SPLIT_CHOICES = [Tiles(*each) for each in product((16,), (32, 64, 128), (2, 4, 8), (2, 3, 4))]


def problems(size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name of a kernel and its mask, and what runs it."""
    for is_causal in (True, False):
        dense = Dense(2, TOKENS, HIDDEN_SIZE // size, size, torch.bfloat16, is_causal)
        run_forward, run_backward = dense.octavo()
        mask = "causal" if is_causal else "full"
        yield f"forward {mask}", run_forward
        yield f"key_gradient {mask}", run_backward
        yield f"query_gradient {mask}", run_backward
    yield "split", decode(size)


def decode(size: int) -> Callable[[], object]:
    requests, kv_heads, block_size = 16, 8, 16
    blocks = requests * TOKENS // block_size
    k_cache, v_cache = (
        torch.randn(blocks, block_size, kv_heads, size, device="cuda", dtype=torch.bfloat16) for _ in range(2)
    )
    q = torch.randn(requests, 4 * kv_heads, size, device="cuda", dtype=torch.bfloat16)
    plan = AttentionPlan(
        query_starts=torch.arange(requests + 1, dtype=torch.int32, device="cuda"),
        seq_lens=torch.full((requests,), TOKENS, dtype=torch.int32, device="cuda"),
        block_tables=torch.randperm(blocks, device="cuda").int().view(requests, -1),
        block_size=block_size,
        max_query_rows=1,
        max_keys=TOKENS,
    )
    options = AttentionOptions(scale=size**-0.5, window_right=0)
    return lambda: ops.paged_attention(q, k_cache, v_cache, plan, options)


def time_with(
    kernel: str, tiles: Tiles | None, split_keys: int, run: Callable[[], object], seconds: float
) -> float | None:
    """Milliseconds with those tiles, None: the table's; no number where they do not fit."""
    module = forward if kernel in ("forward", "split") else backward
    with ExitStack() as stack:
        if tiles is not None:
            stack.enter_context(patch.object(module, f"{kernel}_tiles", lambda *sizes: tiles))
        stack.enter_context(patch.object(forward, "SPLIT_KEYS", split_keys))
        try:
            run()
            (times,) = timed_on_gpu([run], seconds)
        except (OutOfResources, PTXASError, CompilationError):
            return None
    return float(summary(times)["median_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=0.05, help="a choice, at least five rounds")
    parser.add_argument("--sizes", default="64,128,256")
    arguments = parser.parse_args()
    require_gpu()
    results = []
    for size in map(int, arguments.sizes.split(",")):
        for name, run in problems(size):
            kernel = name.split()[0]
            table_ms = time_with(kernel, None, SPLIT_KEYS, run, 10 * arguments.seconds)
            found = []
            for split_keys in (256, 512, 1024, 2048) if kernel == "split" else (SPLIT_KEYS,):
                for tiles in SPLIT_CHOICES if kernel == "split" else CHOICES:
                    ms = time_with(kernel, tiles, split_keys, run, arguments.seconds)
                    if ms is not None:
                        found.append((ms, tiles, split_keys))
            found.sort(key=lambda each: each[0])
            print(f"D={size} {name}: table {table_ms:.3f} ms", flush=True)
            for ms, tiles, split_keys in found[:3]:
                print(f"  {ms:.3f} ms {tiles} splits of {split_keys}", flush=True)
            best = [
                {"ms": ms, "block_m": t.block_m, "block_n": t.block_n, "num_warps": t.num_warps, "num_stages": t.num_stages,
                 "split_keys": keys}
                for ms, t, keys in found[:10]
            ]  # fmt: skip
            results.append({"head_size": size, "kernel": name, "table_ms": table_ms, "best": best})
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
