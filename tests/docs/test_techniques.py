"""`docs/techniques.md` is what its writer makes of the result, and every technique stands in it."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.techniques.registry import TECHNIQUES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "techniques.md").read_text()


@pytest.fixture(scope="module")
def writer() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "bench" / "techniques.py"))


def test_the_page_is_what_the_result_says(writer: dict[str, Any]) -> None:
    report = json.loads((ROOT / "bench" / "results" / "techniques.json").read_text())
    assert writer["page"](report) == PAGE, "run python bench/techniques.py --page"


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_every_technique_has_its_lines_and_its_reason(technique: Any) -> None:
    assert f"| **{technique.title}** |" in PAGE
    section = PAGE.partition(f"\n## {technique.title}\n")[2].partition("\n## ")[0]
    assert technique.because in section
    for figure in technique.figures:
        assert f"| {figure.label} |" in PAGE
