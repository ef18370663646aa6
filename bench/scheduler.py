"""What one scheduling decision costs: `schedule() + update()` with 64 running requests, without a model.

python bench/scheduler.py [--json FILE]
"""

import argparse
import json
import platform
import random
import statistics
import sys
import time
from pathlib import Path

from octavo.cache import KVCacheManager, plan_layout
from octavo.core.cache_spec import FullAttentionSpec, KVDtype, SlidingWindowSpec
from octavo.core.messages import ModelOutput, RequestResult, sequence_id
from octavo.core.request import Request
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler, SchedulerLimits
from octavo.scheduler.policy import FirstComeFirstServed

SHAPE = {"block_size": 16, "num_kv_heads": 1, "key_head_dim": 64, "value_head_dim": 64, "dtype": KVDtype.BF16}
LAYOUTS = {
    "full attention": [FullAttentionSpec(**SHAPE)] * 30,
    "Gemma 3 270M": ([SlidingWindowSpec(window=512, **SHAPE)] * 5 + [FullAttentionSpec(**SHAPE)]) * 3,
}
NUM_RUNNING = 64
NUM_STEPS = 5000


def measure(layout: str) -> dict[str, float]:
    """Milliseconds a step, with requests that finish replaced by new ones, half of whose prompt is shared."""
    rng = random.Random(0)
    cache = KVCacheManager(plan_layout(LAYOUTS[layout]), 60_000)
    scheduler = Scheduler(
        SchedulerLimits(max_num_seqs=NUM_RUNNING, max_num_batched_tokens=2048), cache, FirstComeFirstServed()
    )
    shared = [rng.randrange(50_000) for _ in range(256)]
    num_requests, times_ms = 0, []
    for _ in range(NUM_STEPS):
        while len(scheduler.running) + len(scheduler.waiting) < NUM_RUNNING:
            prompt = shared + [rng.randrange(50_000) for _ in range(rng.randrange(1, 512))]
            params = SamplingParams(max_tokens=rng.randrange(16, 512), ignore_eos=True)
            num_requests += 1
            scheduler.add(
                [Request(sequence_id(str(num_requests), 0), prompt, len(prompt), params, 0, params.max_tokens or 16)]
            )
        start = time.perf_counter()
        batch = scheduler.schedule()
        middle = time.perf_counter()
        output = ModelOutput(
            [RequestResult(each.request_id, [7] if each.is_sampled else []) for each in batch.scheduled]
        )
        resumed = time.perf_counter()
        scheduler.update(batch, output)
        times_ms.append(1e3 * (middle - start + time.perf_counter() - resumed))
    times_ms.sort()
    return {
        "median_ms": statistics.median(times_ms),
        "p95_ms": times_ms[int(0.95 * NUM_STEPS)],
        "p99_ms": times_ms[int(0.99 * NUM_STEPS)],
        "max_ms": times_ms[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = {
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "hardware": platform.processor() or platform.machine(),
        "running_requests": NUM_RUNNING,
        "steps": NUM_STEPS,
        "results": {layout: measure(layout) for layout in LAYOUTS},
    }
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
