"""What the machine can do at most, measured, and how long a row must take at least."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from peers.groups import Model, Row

SOURCE = Path(__file__).parent / "limits.c"
Limits = Mapping[str, float | str]


def measure_limits(threads: int) -> dict[str, float | str]:
    """Compile `limits.c` for this machine and run it."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "limits"
        subprocess.run(["gcc", "-O3", "-march=native", "-fopenmp", str(SOURCE), "-o", str(program)], check=True)
        answer = subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True).stdout
    limits: dict[str, float | str] = json.loads(answer)
    return limits


def best_of(first: Limits, second: Limits) -> dict[str, float | str]:
    """Others on the machine only lower what is measured: the larger figure of each."""
    return {name: max(value, second[name]) if isinstance(value, float) else value for name, value in first.items()}


def least_s(row: Row, model: Model, weight_bytes: int, arithmetic: str, limits: Limits) -> float | None:
    """Seconds below which no engine with these weights can do a row's timed part; None where a limit is unknown.

    A step of decode reads every weight, and multiplies each one with every request's activations; of a prompt, only
    the last token meets the head, which is the embedding here. With W bytes of weights, P parameters beside the
    embedding's E, B requests of T tokens:

        decode:  (steps)·max(W / bandwidth, 2·(P + E)·B / peak)
        prefill: max(W / bandwidth, 2·(P·T + E)·B / peak)

    Attention, activations and the cache are left out. The bandwidth is the cache's where that is the larger: weights
    as small as these may stay in a large last-level cache.
    """
    peak = 1e9 * float(limits[f"{arithmetic}_gop_per_s"])
    if peak <= 0:
        return None
    bandwidth = 1e9 * max(float(limits["read_gb_per_s"]), float(limits["read_cached_gb_per_s"]))
    body, head = model.num_body_parameters, model.num_embedding_parameters
    num_body_tokens = 1 if row.is_decode else row.input_len
    step_s = max(weight_bytes / bandwidth, 2 * (body * num_body_tokens + head) * row.batch / peak)
    return step_s * (row.output_len - 1 if row.is_decode else 1)
