"""Octavo beside other engines, in turn on this machine: `make peers` installs them.

    python bench/compare.py [--group smollm2] [--rounds 5] [--threads 2] [--rows decode1,start] [--engines octavo,llama]
    python bench/compare.py --quick     a short try of everything
    python bench/compare.py --page      only write docs/comparison.md from the results that are there

A whole measurement is written to bench/results/ and the page; a quick or partial one to build/compare/. The machine must
have nothing else to do.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from peers.groups import GROUPS, MODEL_OF_GROUP, MODELS, QUICK_ROWS, ROWS
from peers.limits import best_of, measure_limits
from peers.measure import Plan, measure, say
from peers.page import START, page
from peers.report import group_report

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "comparison.md"
TRIES = ROOT / "build" / "compare"
START_ROUNDS = 3
MAX_REPEATS = 3


def main() -> None:
    arguments = parse_arguments()
    is_whole = not (arguments.quick or arguments.rows or arguments.engines)
    results = RESULTS if is_whole or arguments.page else TRIES
    target = PAGE if results == RESULTS else TRIES / "comparison.md"
    results.mkdir(parents=True, exist_ok=True)
    if not arguments.page:
        for group in [arguments.group] if arguments.group else GROUPS:
            say(f"== {group}")
            report = measure_group(group, arguments)
            (results / f"compare-{group}.json").write_text(json.dumps(report, indent=1) + "\n")
    reports = [json.loads(file.read_text()) for group in GROUPS if (file := results / f"compare-{group}.json").exists()]
    if not reports:
        sys.exit(f"there are no results in {results.relative_to(ROOT)}; run `make compare`")
    target.write_text(page(reports))
    print(f"wrote {target.relative_to(ROOT)}")


def measure_group(group: str, arguments: argparse.Namespace) -> dict[str, Any]:
    rows, rounds = (QUICK_ROWS, 2) if arguments.quick else (ROWS, arguments.rounds)
    wanted = arguments.rows or [*rows, START]
    start_rounds = 1 if arguments.quick else min(START_ROUNDS, rounds)
    TRIES.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        model=MODELS[MODEL_OF_GROUP[group]],
        engines={key: each for key, each in GROUPS[group].items() if key in (arguments.engines or GROUPS[group])},
        rows={key: row for key, row in rows.items() if key in wanted},
        rounds=rounds,
        start_rounds=start_rounds if START in wanted else 0,
        threads=arguments.threads,
        max_repeats=0 if arguments.quick else MAX_REPEATS,
        log_directory=TRIES,
    )
    before = measure_limits(plan.threads)
    records = measure(plan)
    limits = best_of(before, measure_limits(plan.threads))
    command = shlex.join(["python", "bench/compare.py", *sys.argv[1:]])
    return group_report(command, group, plan, records, limits, is_quick=arguments.quick)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({name for engines in GROUPS.values() for name in engines})
    parser.add_argument("--group", choices=list(GROUPS), help="one group; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=name_list([*ROWS, START]), help=f"of {', '.join([*ROWS, START])}")
    parser.add_argument("--engines", type=name_list(names), help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="2 rounds of tiny rows: to try the tool")
    parser.add_argument("--page", action="store_true", help="only write the page")
    return parser.parse_args()


def name_list(allowed: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(allowed)}")
        return names

    return parse


if __name__ == "__main__":
    main()
