"""Octavo's server beside llama.cpp's and vLLM's under the same loads: `make peers` installs them.

    python bench/compare_serve.py [--group smollm2] [--rounds 3] [--threads 2] [--loads closed1,poisson] [--servers octavo,llama]
    python bench/compare_serve.py --quick     a short try of everything

A whole measurement is written to bench/results/serve-GROUP.json and docs/performance.md; a quick or partial one to
build/compare/. The machine must have nothing else to do.
"""

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compare import name_list
from peers.groups import GROUPS, MODEL_OF_GROUP, MODELS
from peers.serve_measure import GOODPUT, LOADS, QUICK_LOADS, ServerRecord, measure_servers
from peers.serve_page import section

from octavo.bench.circumstances import circumstances

ROOT = Path(__file__).parent.parent
RESULTS, TRIES = ROOT / "bench" / "results", ROOT / "build" / "compare"
SERVERS = ("octavo", "octavo-int8", "llama", "llama-q4_0", "vllm")
GROUP_NAMES = tuple(name for name in GROUPS if "llama" in GROUPS[name])


def main() -> None:
    arguments = parse_arguments()
    is_whole = not (arguments.quick or arguments.loads or arguments.servers)
    results = RESULTS if is_whole else TRIES
    TRIES.mkdir(parents=True, exist_ok=True)
    report = measure_group(arguments)
    target = results / f"serve-{arguments.group}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {target.relative_to(ROOT)}")
    if is_whole:
        subprocess.run([sys.executable, "bench/performance.py", "--page"], check=True, cwd=ROOT)
    else:
        print("\n".join(section([report])))


def measure_group(arguments: argparse.Namespace) -> dict[str, Any]:
    all_loads = QUICK_LOADS if arguments.quick else LOADS
    loads = {key: load for key, load in all_loads.items() if key in (arguments.loads or all_loads)}
    engines = {key: GROUPS[arguments.group][key] for key in arguments.servers or SERVERS}
    model = MODEL_OF_GROUP[arguments.group]
    rounds = 1 if arguments.quick else arguments.rounds
    records = measure_servers(
        engines,
        loads,
        vocab_size=MODELS[model].vocab_size,
        rounds=rounds,
        threads=arguments.threads,
        log_directory=TRIES,
    )
    return {
        "benchmark": "compare-serve",
        "is_quick": arguments.quick,
        "model": model,
        "rounds": rounds,
        "threads": arguments.threads,
        "goodput": list(GOODPUT),
        "loads": {key: asdict(load) for key, load in loads.items()},
        "servers": {key: server_report(engine, records[key]) for key, engine in engines.items()},
        **circumstances(shlex.join(["python", "bench/compare_serve.py", *sys.argv[1:]])),
    }


def server_report(engine: Any, record: ServerRecord) -> dict[str, Any]:
    """Paths of this machine are left out."""
    command = [text.replace(str(Path.home()), "~") for text in record.command[:1]]
    command += [Path(text).name if text.startswith("/") else text for text in record.command[1:]]
    return {
        "name": engine.name,
        "file": engine.file.name,
        "weights": engine.weights,
        "command": [Path(command[0]).name, *command[1:]] if command else [],
        "refused": None if record.refused is None else record.refused.replace(str(Path.home()), "~"),
        "rounds": record.rounds,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=GROUP_NAMES, default="smollm2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loads", type=name_list([*LOADS]), help=f"of {', '.join(LOADS)}")
    parser.add_argument("--servers", type=name_list([*SERVERS]), help=f"of {', '.join(SERVERS)}")
    parser.add_argument("--quick", action="store_true", help="tiny loads: to try the tool")
    return parser.parse_args()


if __name__ == "__main__":
    main()
