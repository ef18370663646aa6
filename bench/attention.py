"""What attention reaches: ops.paged_attention beside torch's scaled_dot_product_attention, on the same shapes in turn.

    python bench/attention.py [--json FILE] [--threads N] [--seconds S] [--only prefill|decode]

Prefill is one request whose queries are all its tokens, causal and full; torch gets contiguous (1, heads, tokens, size)
tensors of the cache's type, and GQA by enable_gqa. Rates are 4·D·H·keys seen, and for bf16 the share of the bf16 peak: that
of a loop of products on registers in the same run (bench/peers/limits.c). Decode is GB/s of keys and values, beside what
the same program reads from memory.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from peers.limits import measure_limits
from timing import WARM_UP, summary, timed
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from octavo import ops
from octavo.ops import AttentionOptions, AttentionPlan

BLOCK_SIZE = 16
PREFILL_HEADS = ((8, 8), (9, 3))
DECODE_HEADS = ((8, 8), (9, 3))
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def paged(num_requests: int, keys: int, kv_heads: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Random caches, laid out as worker/kv_cache.py does, and a block table a request."""
    blocks = -(-keys // BLOCK_SIZE)
    shape = (num_requests * blocks + 1, kv_heads, BLOCK_SIZE, size)
    tables = 1 + torch.arange(num_requests * blocks).view(num_requests, blocks)
    k_cache, v_cache = (torch.randn(shape).to(dtype).transpose(1, 2) for _ in range(2))
    return k_cache, v_cache, tables.int()


def plan(num_requests: int, queries: int, keys: int, tables: Tensor) -> AttentionPlan:
    return AttentionPlan(
        query_starts=(torch.arange(num_requests + 1) * queries).int(),
        seq_lens=torch.full((num_requests,), keys, dtype=torch.int32),
        block_tables=tables,
        block_size=BLOCK_SIZE,
    )


def prefill(tokens: int, heads: int, kv_heads: int, size: int, dtype: str, is_causal: bool, seconds: float) -> dict:
    k_cache, v_cache, tables = paged(1, tokens, kv_heads, size, DTYPES[dtype])
    q = torch.randn(tokens, heads, size)
    chunk = plan(1, tokens, tokens, tables)
    k, v = (c[1:].flatten(0, 1)[:tokens].transpose(0, 1)[None].contiguous() for c in (k_cache, v_cache))
    torch_q = q.transpose(0, 1)[None].to(DTYPES[dtype]).contiguous()
    options = AttentionOptions(scale=size**-0.5, window_right=0 if is_causal else None)
    ours, theirs = timed(
        [
            lambda: ops.paged_attention(q, k_cache, v_cache, chunk, options),
            lambda: scaled_dot_product_attention(torch_q, k, v, is_causal=is_causal, enable_gqa=heads != kv_heads),
        ],
        seconds,
    )
    work = 4 * size * heads * tokens * (tokens + 1) / (2 if is_causal else 1)
    return {
        "case": "prefill", "dtype": dtype, "tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head_size": size,
        "is_causal": is_causal, "octavo": summary(ours), "torch": summary(theirs),
        "GFLOP_s": work / statistics.median(ours) / 1e9, "torch_GFLOP_s": work / statistics.median(theirs) / 1e9,
        "ratio": statistics.median(theirs) / statistics.median(ours),
    }  # fmt: skip


def decode(requests: int, keys: int, heads: int, kv_heads: int, size: int, dtype: str, seconds: float) -> dict:
    k_cache, v_cache, tables = paged(requests, keys, kv_heads, size, DTYPES[dtype])
    q, step = torch.randn(requests, heads, size), plan(requests, 1, keys, tables)
    options = AttentionOptions(scale=size**-0.5, window_right=0)
    (times,) = timed([lambda: ops.paged_attention(q, k_cache, v_cache, step, options)], seconds)
    read = 2 * requests * keys * kv_heads * size * k_cache.element_size()
    return {
        "case": "decode", "dtype": dtype, "requests": requests, "keys": keys, "heads": heads, "kv_heads": kv_heads,
        "head_size": size, "octavo": summary(times), "MB": read / 1e6, "GB_s": read / statistics.median(times) / 1e9,
    }  # fmt: skip


def show(result: dict, limits: dict[str, float]) -> None:
    shape = f"{result['dtype']} D={result['head_size']:<4}H={result['heads']}/{result['kv_heads']} "
    if result["case"] == "decode":
        shape += f"{result['requests']:3} × {result['keys']} keys ({result['MB']:.0f} MB)"
        print(f"{shape:48}{result['octavo']['median_ms']:9.3f} ms {result['GB_s']:6.1f} GB/s", flush=True)
        return
    shape += f"{result['tokens']:5} tokens {'causal' if result['is_causal'] else 'full'}"
    share = f" {result['GFLOP_s'] / limits['bf16_GFLOP_s']:4.0%} of peak" if result["dtype"] == "bf16" else ""
    print(
        f"{shape:48}{result['octavo']['median_ms']:9.2f} ms {result['GFLOP_s']:6.0f} GFLOP/s{share}, "
        f"torch {result['torch_GFLOP_s']:6.0f}: {result['ratio']:.2f}×",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=ops.num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="a case, at least five repeats of each side")
    parser.add_argument("--only", choices=("prefill", "decode"))
    options = parser.parse_args()
    ops.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    measured = measure_limits(options.threads)
    limits = {"bf16_GFLOP_s": float(measured["bf16_gop_per_s"]), "read_GB_s": float(measured["read_gb_per_s"])}
    print(
        f"{ops.isa()}, {options.threads} threads; {limits['bf16_GFLOP_s']:.0f} GFLOP/s, {limits['read_GB_s']:.1f} GB/s"
    )
    results = []
    if options.only != "decode":
        for dtype, lengths in (("bf16", (1024, 4096, 8192)), ("fp16", (1024,)), ("fp32", (1024, 4096))):
            for tokens in lengths:
                for size in (64, 128):
                    for heads, kv_heads in PREFILL_HEADS if dtype == "bf16" and tokens < 8192 else PREFILL_HEADS[:1]:
                        for is_causal in (True, False):
                            results.append(prefill(tokens, heads, kv_heads, size, dtype, is_causal, options.seconds))
                            show(results[-1], limits)
    if options.only != "prefill":
        for dtype in ("bf16", "fp32"):
            for size in (64, 128) if dtype == "bf16" else (64,):
                for heads, kv_heads in DECODE_HEADS:
                    for requests in (1, 8, 32):
                        for keys in (512, 4096):
                            results.append(decode(requests, keys, heads, kv_heads, size, dtype, options.seconds / 3))
                            show(results[-1], limits)
    if options.json:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        record = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "commit": commit,
            "machine": platform.processor() or platform.machine(),
            "isa": ops.isa(),
            "torch": torch.__version__,
            "threads": options.threads,
            "warm_up": WARM_UP,
            "limits": limits,
            "results": results,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
