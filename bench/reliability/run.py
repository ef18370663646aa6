"""Measures the figures of reliability against a real server, and writes what each found beside what it is asked.

python bench/reliability/run.py [--figures 1-4,9] [--share 0.02] [--soak-minutes 30] [--json FILE]
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import bad_input
import disconnects
import ending
import invariance
import overload
import responsiveness
import soak
import structured
import suites
from finding import Effort, Finding, Measure
from server.served import MODEL, OPTIONS

from octavo.bench.circumstances import hardware, software

ROOT = Path(__file__).parents[2]
FIGURES: dict[int, Measure] = {
    1: invariance.company,
    2: invariance.prefix_cache,
    3: invariance.preemption,
    4: disconnects.measure,
    5: soak.measure,
    6: overload.measure,
    7: ending.terminated,
    8: ending.killed,
    9: suites.isolation,
    10: bad_input.measure,
    11: suites.openapi,
    12: suites.model_files,
    13: responsiveness.measure,
    14: structured.measure,
    15: suites.streaming,
}


def figure_numbers(text: str) -> list[int]:
    """«1-3,9» → [1, 2, 3, 9]."""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    unknown = [number for number in numbers if number not in FIGURES]
    if unknown:
        raise SystemExit(f"there is no figure {unknown}; there are {min(FIGURES)} … {max(FIGURES)}")
    return numbers


def entry(finding: Finding, effort: Effort, seconds: float) -> dict[str, Any]:
    """What was found, and on which machine, by which code, of which server."""
    return {
        **asdict(finding),
        "seconds": round(seconds, 1),
        "command": " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]]),
        "share": effort.share,
        "model": MODEL,
        "server_options": OPTIONS,
        "hardware": asdict(hardware()),
        "software": asdict(software()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=figure_numbers, default=list(FIGURES))
    parser.add_argument("--share", type=float, default=1.0, help="of the full sizes; a smaller one tries the scripts")
    parser.add_argument("--soak-minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, help="a report whose other figures are kept")
    arguments = parser.parse_args()
    effort = Effort(share=arguments.share, soak_minutes=arguments.soak_minutes)
    report: dict[str, Any] = {"figures": {}}
    if arguments.json and arguments.json.exists():
        report = json.loads(arguments.json.read_text())
    unmet = []
    for number in arguments.figures:
        start_s = time.monotonic()
        finding = FIGURES[number](effort)
        print(
            f"{number:2} {'met' if finding.is_met else 'NOT MET'}: {finding.asked}\n   {finding.measured}", flush=True
        )
        report["figures"][str(number)] = entry(finding, effort, time.monotonic() - start_s)
        unmet += [] if finding.is_met else [number]
        if arguments.json:
            report["figures"] = dict(sorted(report["figures"].items(), key=lambda item: int(item[0])))
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if unmet:
        raise SystemExit(f"figures not met: {unmet}")


if __name__ == "__main__":
    main()
