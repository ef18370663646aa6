"""What attention reaches: the functions of `octavo.ops` beside torch's scaled_dot_product_attention, in turn in the same run.

    python bench/attention.py [--json FILE] [--only forward,backward,…] [--threads N] [--seconds S]
    python bench/attention.py --page     write the section of docs/attention.md from bench/results/attention.json

    forward     flash_attn_func beside torch, fp32, fp16 and bf16, heads of 64 and 128, causal and full
    backward    the same, forward and backward
    heads       a head size of 80 beside 64 and 96
    varlen      requests of mixed lengths: end to end, in proportion of dense batches, one call each, padded to the longest
    memory      peak memory and time, beside the standard algorithm with its scores in memory
    decode      one token a request over a paged cache, as GB/s of keys and values

Octavo gets (batch, tokens, heads, size), torch contiguous (batch, heads, tokens, size). Rates count 4·D·H operations for each
key that a row sees, 3.5 times that with the backward pass. Benchmarks want the machine to themselves; all parts take about ten
minutes on two cores.
"""

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from attention_parts.cases import MIN_REPEATS_OF_LONG, PARTS, Result
from attention_parts.page import with_section
from peers.limits import best_of, measure_limits
from timing import MIN_REPEATS, WARM_UP

from octavo import ops
from octavo.bench.circumstances import hardware, software

ROOT = Path(__file__).parent.parent
SHOWN_SIZES = ("requests", "keys", "tokens", "heads", "kv_heads", "head_size", "is_causal")
UNITS = {"median_ms": "ms", "GFLOP_s": "GFLOP/s", "GB_s": "GB/s", "peak_MB": "MB"}
RESULTS, PAGE = ROOT / "bench" / "results" / "attention.json", ROOT / "docs" / "attention.md"


def main() -> None:
    arguments = parse_arguments()
    if arguments.page:
        PAGE.write_text(with_section(PAGE.read_text(), json.loads(RESULTS.read_text())))
        print(f"wrote {PAGE.relative_to(ROOT)}")
        return
    record = measure(arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    ops.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    record = {
        "command": shlex.join(["python", "bench/attention.py", *sys.argv[1:]]),
        "software": asdict(software()),
        "hardware": asdict(hardware()),  # before anything ran
        "threads": arguments.threads,
        "isa": ops.isa(),
        "warm_up": WARM_UP,
        "min_repeats": MIN_REPEATS,
        "min_repeats_of_long": MIN_REPEATS_OF_LONG,
    }
    limits = measure_limits(arguments.threads)
    print(f"{ops.isa()}, {arguments.threads} threads; bf16 {limits['bf16_gop_per_s']:.0f} GFLOP/s", flush=True)
    results = []
    for part in arguments.only:
        for result in PARTS[part](arguments.seconds, arguments.threads):
            results.append(result)
            print(line(result), flush=True)
    return {**record, "limits": best_of(limits, measure_limits(arguments.threads)), "results": results}


def line(result: Result) -> str:
    shape = " ".join(f"{name}={value}" for name, value in result["shape"].items() if name in SHOWN_SIZES)
    what = f"{result['dtype']} {'forward+backward' if result['has_backward'] else 'forward'}"
    sides = (
        f"{name} " + " ".join(f"{value:.2f} {UNITS[unit]}" for unit, value in side.items() if unit in UNITS)
        for name, side in result["sides"].items()
    )
    return f"{what} {shape}: {'; '.join(sides)}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=ops.num_threads())
    parser.add_argument("--seconds", type=float, default=0.5, help="a case, at least a few repeats of each side")
    parser.add_argument("--page", action="store_true", help="only write the page")
    return parser.parse_args()


def parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
