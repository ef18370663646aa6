"""Measure what each technique gains and write what `docs/techniques.md` shows.

    python bench/techniques.py            run them all into bench/results/techniques.json, then write the page
    python bench/techniques.py --page     write the page from the result that is there

Benchmarks want the machine to themselves; this one takes a few minutes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from octavo.bench.techniques.comparison import TechniqueResult
from octavo.bench.techniques.page import read_results
from octavo.bench.techniques.report import row, same_text

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "bench" / "results" / "techniques.json"
PAGE = ROOT / "docs" / "techniques.md"
COMMAND = ("octavo", "bench", "techniques", "--repeats", "5", "--json", "bench/results/techniques.json")


def main() -> None:
    if "--page" not in sys.argv[1:]:
        print(" ".join(COMMAND), flush=True)
        subprocess.run([sys.executable, "-m", "octavo.cli", *COMMAND[1:]], check=True, cwd=ROOT)
    PAGE.write_text(page(json.loads(RESULT.read_text())))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def page(report: dict[str, Any]) -> str:
    results = read_results(report)
    model, hardware, software = report["model"], report["hardware"], report["software"]
    lines = [
        "# What each technique gains",
        "",
        "Written by `make bench-techniques` from `bench/results/techniques.json`: the same work by the same code, with one technique",
        f"on and off, in turn. Medians over {report['repeats']} repeats; a ratio is the median of those of runs side by side, its range",
        "all of them (empty where they are equal). Above 1 is a gain.",
        "`octavo bench techniques --html FILE` makes the same for your own machine and model, with plots.",
        "",
        f"{model['name']} ({' + '.join(sorted(model['weight_formats']))}, {model['num_parameters'] / 1e6:.0f}M parameters) on "
        f"{hardware['cpu']}, {report['threads']} threads, {report['isa']}. Octavo {software['octavo']}, "
        f"torch {software['torch']}; load {hardware['load_average']:.1f}.",
        "",
        "| technique | figure | on | off | ratio | range |",
        "|---|---|---|---|---|---|",
        *(line for result in results for line in table_lines(result)),
    ]
    for result in results:
        lines += ["", f"## {result.title}", "", *section(result)]
    return "\n".join(lines) + "\n"


def table_lines(result: TechniqueResult) -> list[str]:
    """A line a figure; the technique's name stands in the first."""
    if result.missing is not None:
        return [f"| {result.title} | not measured | | | | |"]
    lines = []
    for number, figure in enumerate(map(row, result.figures)):
        name = f"**{result.title}**" if number == 0 else ""
        lines.append(f"| {name} | {figure.label} | {figure.on} | {figure.off} | {figure.ratio} | {figure.spread} |")
    return lines


def section(result: TechniqueResult) -> list[str]:
    if result.missing is not None:
        return [f"Not measured: {result.missing}."]
    told = [result.because, result.why, same_text(result) or ""]
    return [" ".join(told).rstrip(), "", f"On: {result.on}. Off: {result.off}."]


if __name__ == "__main__":
    main()
