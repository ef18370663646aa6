"""What linear layers reach: every format, with activations as they are, as bytes and as bf16, beside the machine's peaks.

    python bench/linear.py [--json FILE] [--formats Q4_1,BF16,I8] [--rows 1,8,32,128,512] [--threads N]

For one row the weights cycle through copies larger than the second cache, as a model's layers do, and the rate is GB/s
of packed weights; for more rows it is GOP/s (2·rows·K·N a product). int8 and bf16 include the narrowing of the
activations. All are run in turn, and medians given. The peaks are those of peers/limits.c.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from peers.limits import measure_limits
from timing import timed

from octavo import ops
from octavo.ops import PackedWeight, StoredWeight, WeightFormat
from octavo.ops.dispatch import NATIVE

SHAPES = ((960, 576), (576, 576), (3072, 576), (576, 1536))  # of a layer of SmolLM2-135M, (N, K)
FLOAT_DTYPES = {
    WeightFormat.F32: torch.float32,
    WeightFormat.F16: torch.float16,
    WeightFormat.BF16: torch.bfloat16,
}
WORKING_SET_BYTES = 128 << 20
SECONDS = 0.25


def random_weight(weight_format: WeightFormat, n: int, k: int) -> StoredWeight:
    """Random codes, scales of about 0.01; floats of a normal distribution."""
    if not weight_format.is_block_format:
        stored = WeightFormat.F32 if weight_format is WeightFormat.I8 else weight_format
        weight = StoredWeight(torch.randn(n, k).to(FLOAT_DTYPES[stored]), stored, n, k)
        return ops.quantize_weight(weight) if weight_format is WeightFormat.I8 else weight
    data = torch.randint(0, 256, (n, weight_format.row_bytes(k)), dtype=torch.uint8)
    half = torch.full((n, k // weight_format.block_size, 1), 0.01).half().view(torch.uint8)
    blocks = data.view(n, -1, weight_format.block_bytes)
    offsets = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
    for offset in offsets.get(weight_format.value, (0,)):
        blocks[..., offset : offset + 2] = half
    return StoredWeight(data, weight_format, n, k)


def layers(weight_format: WeightFormat) -> list[list[PackedWeight]]:
    """As many layers as make the working set, packed one after the other as an engine's are."""
    is_k_quant = weight_format.block_size == 256
    shapes = [(n, (k + 255) // 256 * 256 if is_k_quant else k) for n, k in SHAPES]
    stored = [random_weight(weight_format, n, k) for n, k in shapes]
    count = max(2, WORKING_SET_BYTES // sum(weight.num_bytes for weight in stored))
    return [[ops.pack_weight(weight, device="cpu") for weight in stored] for _ in range(count)]


def paths(weight_format: WeightFormat, *, has_all: bool) -> list[str]:
    """native; int8 with the path that the rows choose, or each; bf16 where there are tiles."""
    assert NATIVE is not None
    found = ["native"]
    if weight_format.is_block_format or weight_format is WeightFormat.I8:
        found += ["int8", *(f"int8 {path}" for path in NATIVE.int8_paths() if has_all)]
    if ops.has_bf16_tiles() and weight_format is not WeightFormat.F32:
        found.append("bf16")
    return found


def multiply(path: str, x_TK: torch.Tensor, weight: PackedWeight) -> None:
    """One product, what narrows its activations included."""
    if path == "native":
        ops.linear(x_TK, weight)
    elif path == "bf16":
        ops.linear_bf16(ops.round_bf16(x_TK), weight)
    elif weight.format is WeightFormat.I8:
        ops.linear_i8(ops.quantize_rows(x_TK), weight)
    else:
        ops.linear_int8(ops.quantize_activations(x_TK), weight)


def measure(weight_format: WeightFormat, rows: int, paths: list[str]) -> list[float]:
    """Of each path, GB/s for one row, else GOP/s."""
    stack = layers(weight_format) if rows == 1 else layers(weight_format)[: max(2, 256 // rows)]
    inputs = {w.in_features: torch.randn(rows, w.in_features) for w in stack[0]}

    def runner(path: str) -> Callable[[], None]:
        def run() -> None:
            assert NATIVE is not None
            NATIVE.force_int8_path(path.partition(" ")[2])
            for layer in stack:
                for weight in layer:
                    multiply(path, inputs[weight.in_features], weight)

        return run

    weights = [weight for layer in stack for weight in layer]
    done = [w.num_bytes if rows == 1 else 2 * rows * w.out_features * w.in_features for w in weights]
    times = timed([runner(path) for path in paths], SECONDS * len(paths))
    return [sum(done) / statistics.median(own) / 1e9 for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--formats", default=",".join(WeightFormat))
    parser.add_argument("--rows", default="1,8,32,128,512")
    parser.add_argument("--threads", type=int, default=ops.num_threads())
    parser.add_argument(
        "--all-paths", action="store_true", help="every path of linear_int8 and linear_i8, not just the one chosen"
    )
    options = parser.parse_args()
    if NATIVE is None:
        sys.exit("octavo._native is not built")
    ops.set_num_threads(options.threads)
    limits = measure_limits(options.threads)
    print(f"{ops.isa()}, {options.threads} threads; at most {', '.join(f'{name} {v}' for name, v in limits.items())}")
    rows = [int(each) for each in options.rows.split(",")]
    print(f"{'':18}" + "".join(f"{'GB/s' if m == 1 else 'GOP/s'} M={m:<6}" for m in rows))
    results = []
    for name in options.formats.split(","):
        ways = paths(WeightFormat(name), has_all=options.all_paths)
        rates = [measure(WeightFormat(name), m, ways) for m in rows]
        for index, path in enumerate(ways):
            print(f"{name:6}{path:12}" + "".join(f"{rate[index]:10.1f}  " for rate in rates), flush=True)
            results += [
                {"format": name, "path": path, "rows": m, "rate": rate[index]}
                for m, rate in zip(rows, rates, strict=True)
            ]
    NATIVE.force_int8_path("")
    if options.json:
        record = {
            "command": sys.argv,
            "machine": platform.processor() or platform.machine(),
            "isa": ops.isa(),
            "threads": options.threads,
            "shapes_NK": SHAPES,
            "unit": "GB/s of packed weights at 1 row, GOP/s beyond",
            "limits": limits,
            "results": results,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
