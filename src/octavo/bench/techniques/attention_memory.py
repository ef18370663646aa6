"""Peak memory of attention by length, in a process of its own, where nothing that was freed is used again.

python -m octavo.bench.techniques.attention_memory on|off HEADS HEAD_SIZE THREADS LENGTH…
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from octavo import ops
from octavo.bench.attention_costs import AttentionShape
from octavo.bench.peak_memory import peak_bytes_above_start
from octavo.bench.techniques.attention_run import attend
from octavo.core.errors import EngineDeadError

PAGE_BYTES = 4096
"""Less cannot be seen."""
_M_MMAP_THRESHOLD = -3


def peak_bytes(is_on: bool, shapes: Sequence[AttentionShape], threads: int) -> list[int]:
    """Above the inputs, for each of several lengths of one shape. Raises `EngineDeadError` if the process fails."""
    shape = shapes[0]
    numbers = [shape.heads, shape.head_dim, threads, *(each.seqlen for each in shapes)]
    command = [sys.executable, "-m", __name__, "on" if is_on else "off", *map(str, numbers)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise EngineDeadError(f"the process that measures attention's memory failed: {answer.stderr.strip()[-500:]}")
    peaks: list[int] = json.loads(answer.stdout)
    return peaks


def main() -> None:
    state, *numbers = sys.argv[1:]
    heads, head_dim, threads, *lengths = map(int, numbers)
    ops.set_num_threads(threads)
    torch.set_num_threads(threads)
    _return_what_is_freed()
    shape = AttentionShape(seqlen=1, head_dim=head_dim, heads=heads, element_bytes=2, is_causal=True)
    attend(state == "on", shape, 0)()  # what a first call loads is no part of it
    peaks = []
    for length in lengths:
        run = attend(state == "on", replace(shape, seqlen=length), 0)
        peaks.append(max(PAGE_BYTES, peak_bytes_above_start(run)))
    print(json.dumps(peaks))


def _return_what_is_freed() -> None:
    """Tensors get pages of their own, however large those freed before were: a fixed threshold (mallopt(3))."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 16)


if __name__ == "__main__":
    main()
