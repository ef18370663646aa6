"""The peak memory of one call, in a process of its own.

python -m attention_parts.memory ALGORITHM DTYPE TOKENS HEADS HEAD_SIZE IS_CAUSAL HAS_BACKWARD THREADS
"""

import subprocess
import sys
from pathlib import Path

import torch
from attention_parts.runs import Run, Shape, octavo_run, random_inputs, standard_run, torch_run

from octavo import ops
from octavo.bench.peak_memory import peak_bytes_above_start

RUNS = {"octavo": octavo_run, "torch": torch_run, "standard": standard_run}


def peak_mb(algorithm: str, dtype: str, shape: Shape, *, has_backward: bool, threads: int) -> float:
    """Above the inputs (with the backward pass, of do too): the results and whatever else was resident at the peak."""
    numbers = (shape.tokens, shape.heads, shape.head_size, int(shape.is_causal), int(has_backward), threads)
    command = [sys.executable, "-m", "attention_parts.memory", algorithm, dtype, *map(str, numbers)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return int(answer.stdout) / 1e6


def main() -> None:
    algorithm, dtype, *numbers = sys.argv[1:]
    tokens, heads, head_size, is_causal, has_backward, threads = map(int, numbers)
    ops.set_num_threads(threads)
    torch.set_num_threads(threads)

    def run_of(num_tokens: int) -> Run:
        shape = Shape(num_tokens, heads, head_size, bool(is_causal))
        x = random_inputs(shape, dtype, heads_first=algorithm != "octavo")
        return RUNS[algorithm](x, is_causal=shape.is_causal, has_backward=bool(has_backward))

    run_of(1)()  # what a first call loads is no part of it
    print(peak_bytes_above_start(run_of(tokens)))


if __name__ == "__main__":
    main()
