"""Measure this machine and write what `docs/performance.md` shows: the engine's latency, and the scheduler's cost.

Benchmarks want the machine to themselves.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.serve_page import section

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
MODELS = ("smollm2", "gemma3-270m")
SHAPES = ((512, 64, 1), (128, 64, 8), (128, 64, 32))
"""Tokens in, tokens out, batch size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="only write the page, from the results that are there")
    if not parser.parse_args().page:
        measure()
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")


def measure() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "bench/scheduler.py", "--json", "bench/results/scheduler.json"])
    run([sys.executable, "bench/program.py", "--json", "bench/results/program.json"])
    run([sys.executable, "bench/dashboard_cost.py", "--json", "bench/results/dashboard-cost.json"])
    for model in MODELS:
        for input_len, output_len, batch_size in SHAPES:
            shape = f"--input-len {input_len} --output-len {output_len} --batch-size {batch_size}"
            target = f"bench/results/latency-{model}-{input_len}-{output_len}-{batch_size}.json"
            options = f"{shape} --model {model} --max-model-len 2K --kv-cache-memory 2G --json {target}"
            run([sys.executable, "-m", "octavo.cli", "bench", "latency", *options.split()])


def run(command: list[str]) -> None:
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True, cwd=ROOT)


def page() -> str:
    reports = [read(path) for path in sorted(RESULTS.glob("latency-*.json"))]
    program = read(RESULTS / "program.json")
    hardware, software = reports[0]["hardware"], reports[0]["software"]
    lines = [
        "# Performance",
        "",
        "Written by `python bench/performance.py` from `bench/results/*.json`; medians of "
        f"{reports[0]['shape']['iterations']} runs after {reports[0]['shape']['warmup']} to warm up, random token ids, "
        "prefix caching off.",
        "",
        f"Machine: {hardware['cpu']}, {reports[0]['threads']} threads, "
        f"{reports[0]['isa']}. Octavo {software['octavo']}, torch {software['torch']}, "
        f"Python {software['python']}.",
        "",
        "## The engine",
        "",
        "| model | in / out | requests | prefill tok/s | decode tok/s | time to first token | per output token |",
        "|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        shape = report["shape"]
        lines.append(
            f"| {report['model']['name']} | {shape['input_len']} / {shape['output_len']} | {shape['batch_size']} "
            f"| {report['prefill_tokens_per_s']:,.0f} | {report['decode_tokens_per_s']:,.0f} "
            f"| {1e3 * report['ttft_s']:,.0f} ms | {1e3 * report['tpot_s']:.1f} ms |"
        )
    scheduler = read(RESULTS / "scheduler.json")
    lines += [
        "",
        f"With the defaults of this machine: {program['linear_activations']} activations, a bf16 cache. Where a prompt batch takes more",
        "than one step, requests that are ready decode meanwhile, and the two rates are not of prefill and decode alone.",
        "",
        "## Recording and fusing the pass",
        "",
        f"A step of {program['model']}, without scheduling and sampling; medians of {program['steps']}, in turn:",
        "",
        "| requests | tokens computed, of each's | op by op | recorded | recorded and fused |",
        "|---|---|---|---|---|",
        *(
            f"| {row['requests']} | {row['new_tokens']} of {row['context_tokens']} | "
            + " | ".join(f"{row[name]['median_ms']:.1f} ms" for name in ("op by op", "recorded", "recorded and fused"))
            + " |"
            for row in program["results"]
        ),
        "",
        "Recording takes Python out of a decode step. Fusing matters for a prompt: a gated layer's sums, twice as wide as the stream",
        "in fp32, never leave the cache of the core that makes them.",
        "",
        "## The scheduler",
        "",
        f"`schedule() + update()` with {scheduler['running_requests']} running requests, no model, {scheduler['steps']:,} steps:",
        "",
        "| cache layout | median | P95 | P99 |",
        "|---|---|---|---|",
    ]
    for layout, times in scheduler["results"].items():
        lines.append(
            f"| {layout} | {times['median_ms']:.2f} ms | {times['p95_ms']:.2f} ms | {times['p99_ms']:.2f} ms |"
        )
    lines += ["", *_dashboard(read(RESULTS / "dashboard-cost.json"))]
    servers = section([read(path) for path in sorted(RESULTS.glob("serve-*.json"))])
    return "\n".join([*lines, "", *servers, (Path(__file__).parent / "learned.md").read_text().rstrip()]) + "\n"


def _dashboard(report: Any) -> list[str]:
    step = report["step"]
    return [
        "## The dashboard",
        "",
        f"What [the dashboard](dashboard.md) costs while {step['num_requests']} requests decode, watched or not: "
        f"{step['engine_us_per_step']:.0f} µs of the engine's step of {step['step']['median_ms']:.1f} ms "
        f"({step['engine_share']:.2%}), and {step['server_us_per_step']:.0f} µs in the server's process ({step['server_share']:.2%}). "
        f"With a viewer there are {report['throughput']['ratio']:.3f} of the tokens a second that there are without.",
    ]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
