"""What recording and fusing a forward pass gain: a decode step op by op, recorded, and recorded with kernels fused.

    python bench/program.py [--json FILE] [--model NAME] [--requests 1,8,32] [--context 192] [--steps 60]

The three compute the same bits; their steps are run in turn, and medians and quartiles given. Sampling, scheduling and text
are left out.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from octavo.bench.circumstances import hardware, software
from octavo.config import EngineConfig
from octavo.engine.build import build_engine
from octavo.worker.forward_pass import ForwardPass, PlainPass, RecordedPass
from octavo.worker.input_batch import StepTensors
from octavo.worker.program_report import uniform_step

WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", default="1,8,32")
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    core, engine = build_engine(EngineConfig(model=arguments.model, max_model_len=2048, kv_cache_memory="1G"))
    # The runner's own model, bound to its cache: another pass over the same memory.
    model, layout, num_blocks = core.runner._model, core.runner._layout, engine.num_blocks
    counts = [int(count) for count in arguments.requests.split(",")]
    with torch.inference_mode():
        sizes = {"max_tokens": max(counts), "max_sampled": max(counts)}
        passes: dict[str, ForwardPass] = {
            "op by op": PlainPass(model),
            "recorded": RecordedPass(model, layout, **sizes, is_fused=False),
            "recorded and fused": RecordedPass(model, layout, **sizes),
        }
        rows = []
        for count in counts:
            step = uniform_step(layout, num_blocks, count, arguments.context)
            times = timed(passes, step, torch.arange(count), arguments.steps)
            rows.append({"requests": count, **{name: summary(of) for name, of in times.items()}})
            print(
                f"{count:3} requests: " + ", ".join(f"{name} {rows[-1][name]['median_ms']:.2f} ms" for name in passes)
            )
    report = {
        "command": "python bench/program.py",
        "software": dataclasses.asdict(software()),
        "hardware": dataclasses.asdict(hardware()),
        "model": arguments.model,
        "threads": engine.options["threads"],
        "isa": engine.isa,
        "linear_activations": engine.options["linear_activations"],
        "context_tokens": arguments.context,
        "warm_up": WARM_UP,
        "steps": arguments.steps,
        "results": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def timed(
    passes: dict[str, ForwardPass], step: StepTensors, rows_R: torch.Tensor, steps: int
) -> dict[str, list[float]]:
    """Seconds of each, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for index in range(WARM_UP + steps):
        for name, run in passes.items():
            start = time.perf_counter()
            run(step, rows_R)
            if index >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return times


def summary(seconds: list[float]) -> dict[str, Any]:
    quartiles = statistics.quantiles(seconds, n=4)
    return {"median_ms": 1e3 * quartiles[1], "spread_ms": 1e3 * (quartiles[2] - quartiles[0])}


if __name__ == "__main__":
    sys.exit(main())
