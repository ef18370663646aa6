"""`docs/architecture.md`: what it says Octavo stands on is what is installed with it."""

import re
from importlib.metadata import requires
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_every_dependency_is_named() -> None:
    lines = [line for line in requires("octavo") or () if "extra ==" not in line]
    needed = {re.split(r"[<>=!~;\[( ]", line)[0] for line in lines}
    section = PAGE.read_text().partition("## What it stands on")[2].partition("`transformers`")[0]
    assert needed and needed <= set(re.findall(r"[a-z0-9-]+", section))
