"""Registers, spills and shared memory of every launch of attention's Triton kernels, compiled for GPUs that need not be there.

    python bench/gpu_resources.py [--json FILE] [--architectures 80,86,90]

Head sizes 64 to 512, bf16 (fp16 is no different) and fp32, causal and full. Fails where a launch takes more shared memory
than a block may have.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import triton
from gpu_launches import launches

from octavo.bench.circumstances import software
from octavo.ops.triton.ahead_of_time import ARCHITECTURES, assembler_version, resources
from octavo.ops.triton.launch_table import LARGE_FP32_HEAD, LARGE_FP32_SHARED_BYTES

SIZES = (64, 128, 256, 512)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--architectures", default="80,86,90")
    arguments = parser.parse_args()
    rows, has_failed = [], False
    for architecture in map(int, arguments.architectures.split(",")):
        limits = ARCHITECTURES[architecture]
        for name, dtype in DTYPES.items():
            for size in SIZES:
                for is_causal in (True, False):
                    for what, launch in launches(size, dtype, limits, is_causal=is_causal):
                        is_large = what == "backward" and name == "fp32" and size > LARGE_FP32_HEAD
                        if is_large and limits.shared_bytes < LARGE_FP32_SHARED_BYTES:
                            continue  # refused there
                        found = resources(launch, architecture)
                        has_failed |= found.shared_bytes > limits.shared_bytes
                        mask = "causal" if is_causal else "full"
                        rows.append(
                            {
                                "sm": architecture, "dtype": name, "head_size": size, "mask": mask, "what": what,
                                "kernel": found.kernel, "block_m": launch.arguments.get("BLOCK_M"),
                                "block_n": launch.arguments.get("BLOCK_N"), "num_warps": launch.num_warps,
                                "num_stages": launch.num_stages, "registers": found.registers,
                                "spilled_bytes": found.spilled_bytes, "shared_bytes": found.shared_bytes,
                            }
                        )  # fmt: skip
                        print(*rows[-1].values(), flush=True)
    if arguments.json:
        record = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            **asdict(software()),
            "triton": triton.__version__,
            "ptxas": assembler_version(),
            "launches": rows,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if has_failed:
        sys.exit("a launch takes more shared memory than a block may have")


if __name__ == "__main__":
    main()
