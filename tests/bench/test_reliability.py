"""The scripts of the figures of reliability, which only `make soak` and `make fuzz` run whole: that they are there."""

import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "bench" / "reliability"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = {path.stem for path in SCRIPTS.glob("*.py")}
    import run

    yield run
    for name in names & sys.modules.keys():
        del sys.modules[name]


def test_every_figure_has_its_script(run: Any) -> None:
    assert list(run.FIGURES) == list(range(1, 16))
    assert run.figure_numbers("1-3,9") == [1, 2, 3, 9]
    with pytest.raises(SystemExit, match="no figure"):
        run.figure_numbers("16")


def test_make_runs_every_figure(run: Any) -> None:
    makefile = (SCRIPTS.parents[1] / "Makefile").read_text()
    asked = [line.split("--figures ")[1].split()[0] for line in makefile.splitlines() if "--figures" in line]
    assert sorted(number for figures in asked for number in run.figure_numbers(figures)) == list(run.FIGURES)
