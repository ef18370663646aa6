"""The HTML page: well-formed, complete, and in need of nothing outside itself."""

import json
import re
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from octavo.bench.statistics import summarise
from octavo.bench.techniques.comparison import FigureResult, PlotResult, TechniqueResult
from octavo.bench.techniques.page import POLICY, html_page, read_results
from octavo.bench.techniques.registry import TECHNIQUES
from octavo.bench.techniques.report import techniques_report
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import PlotKind, Point

NAUGHTY = "<script>alert('&')</script>"


def made_up(number: int) -> TechniqueResult:
    """A result of the registry's technique of that number."""
    technique = TECHNIQUES[number]
    curves: dict[PlotKind, list[Point]] = {
        PlotKind.LINES: [Point(1, 0.5), Point(2, 1.5), Point(4, 0.25)],
        PlotKind.BARS: [Point("prompt", 0.5), Point(NAUGHTY, 1.5)],
    }
    return TechniqueResult(
        name=technique.name,
        title=technique.title,
        on=technique.on,
        off=technique.off,
        because=technique.because,
        why=f"For {NAUGHTY}.",
        same="tokens",
        is_same=True,
        figures=[
            FigureResult(figure=figure, on=summarise([1.0]), off=summarise([3.0]), ratio=summarise([2.5, 3.0, 4.0]))
            for figure in technique.figures
        ],
        plots=[PlotResult(plot=plot, on=curves[plot.kind], off=curves[plot.kind]) for plot in technique.plots],
    )


@pytest.fixture(scope="module")
def report(subject: Subject) -> dict[str, Any]:
    results = [made_up(number) for number in range(len(TECHNIQUES) - 1)]
    last = TECHNIQUES[-1]
    results.append(
        TechniqueResult(
            name=last.name, title=last.title, on=last.on, off=last.off, because=last.because, missing="no such weights"
        )
    )
    return techniques_report("octavo bench techniques", subject, 3, results)


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return html_page(report)


@pytest.fixture(scope="module")
def tree(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def test_it_is_well_formed_and_has_every_technique(tree: ElementTree.Element) -> None:
    assert {section.get("id") for section in tree.iter("section")} >= {technique.name for technique in TECHNIQUES}
    text = " ".join(tree.itertext())
    assert "Not measured: no such weights." in text
    assert NAUGHTY in text


def test_every_plot_is_an_svg_with_a_name_and_both_curves(tree: ElementTree.Element) -> None:
    plots = list(tree.iter("svg"))
    assert len(plots) == sum(len(technique.plots) for technique in TECHNIQUES[:-1])
    for plot in plots:
        assert plot.get("aria-label")
        sides = {shape.get("class", "").split()[-1] for shape in [*plot.iter("polyline"), *plot.iter("rect")]}
        assert sides == {"on", "off"}


def test_shapes_lie_inside_their_plot(tree: ElementTree.Element) -> None:
    for plot in tree.iter("svg"):
        width, height = map(float, plot.get("viewBox", "").split()[2:])
        for line in plot.iter("polyline"):
            for pair in line.get("points", "").split():
                x, y = map(float, pair.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height
        for bar in plot.iter("rect"):
            assert float(bar.get("height", "-1")) >= 0
            assert float(bar.get("y", "-1")) >= 0


def test_it_runs_nothing_and_asks_for_nothing(page: str, tree: ElementTree.Element) -> None:
    assert not re.search(r"https?:|//\w|url\(|@import|\bon\w+=", page)
    assert {element.tag for element in tree.iter()}.isdisjoint({"script", "link", "img", "iframe", "object", "use"})
    assert all((link.get("href") or "").startswith("#") for link in tree.iter("a"))
    assert POLICY in page
    assert "prefers-color-scheme: dark" in page


def test_the_ratio_and_its_range_are_there(tree: ElementTree.Element) -> None:
    first = next(section for section in tree.iter("section") if section.get("id") == TECHNIQUES[0].name)
    cells = [" ".join(cell.itertext()) for cell in first.iter("td")]
    assert cells[1:5] == ["1.00 s", "3.00 s", "3×", "2.5 – 4"]


def test_the_json_holds_all_that_the_page_needs(report: dict[str, Any], page: str) -> None:
    again = json.loads(json.dumps(report))
    assert html_page(again) == page
    assert [result.name for result in read_results(again)] == [technique.name for technique in TECHNIQUES]
    for name in ("command", "date", "software", "hardware", "model", "options", "sizes", "repeats"):
        assert name in again


def test_a_report_of_something_else_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        read_results({"techniques": [{"name": "latency"}]})
