"""What recording and fusing a forward pass gain: a step op by op, recorded, and recorded with kernels fused.

    python bench/program.py [--json FILE] [--model NAME] [--requests 1,8,32] [--context 192] [--prompt 512] [--steps 60]

The steps are a decode of each number of requests, and a prompt.

The three compute the same bits; their steps are run in turn, and medians and quartiles given. Sampling, scheduling and text
are left out.
"""

import argparse
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

import torch
from timing import summary, timed

from octavo.bench.circumstances import hardware, software
from octavo.config import EngineConfig
from octavo.engine.build import build_engine
from octavo.worker.forward_pass import ForwardPass, PlainPass, RecordedPass
from octavo.worker.program_report import uniform_step

WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", default="1,8,32")
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    core, engine = build_engine(EngineConfig(model=arguments.model, max_model_len=2048, kv_cache_memory="1G"))
    model, layout, num_blocks = core.runner.model, core.runner.layout, engine.num_blocks
    counts = [int(count) for count in arguments.requests.split(",")]
    cases = [(count, arguments.context, 1) for count in counts] + [(1, arguments.prompt, arguments.prompt)]
    with torch.inference_mode():
        sizes = {"max_tokens": max(arguments.prompt, *counts), "max_sampled": max(counts)}
        passes: dict[str, ForwardPass] = {
            "op by op": PlainPass(model),
            "recorded": RecordedPass(model, layout, **sizes, is_fused=False),
            "recorded and fused": RecordedPass(model, layout, **sizes),
        }
        rows = []
        for count, context, new_tokens in cases:
            step = uniform_step(layout, num_blocks, count, context, new_tokens)
            last = torch.arange(new_tokens - 1, count * new_tokens, new_tokens)
            runs = [partial(run, step, last) for run in passes.values()]
            times = timed(runs, 0, warm_up=WARM_UP, min_repeats=arguments.steps)
            shape = {"requests": count, "context_tokens": context, "new_tokens": new_tokens}
            rows.append(shape | dict(zip(passes, map(summary, times), strict=True)))
            print(
                f"{count:3} requests, {new_tokens} of {context} tokens: "
                + ", ".join(f"{name} {rows[-1][name]['median_ms']:.2f} ms" for name in passes)
            )
    report = {
        "command": "python bench/program.py",
        "software": dataclasses.asdict(software()),
        "hardware": dataclasses.asdict(hardware()),
        "model": arguments.model,
        "threads": engine.options["threads"],
        "isa": engine.isa,
        "linear_activations": engine.options["linear_activations"],
        "warm_up": WARM_UP,
        "steps": arguments.steps,
        "results": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
