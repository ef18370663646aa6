"""`octavo bench techniques` from end to end, on a tiny model."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from octavo.bench.techniques.registry import TECHNIQUES
from octavo.cli.bench_techniques import NAMES

from .conftest import Octavo

LINE = ["bench", "techniques", "--repeats", "1", "--kv-cache-memory", "4M", "--output-len", "4", "--num-requests", "10"]
QUICK = [*LINE, "--only", "kv-cache", "--only", "paged-kv"]


def test_the_help_names_every_technique() -> None:
    assert [technique.name for technique in TECHNIQUES] == list(NAMES)


def test_a_table_with_both_figures_and_why(octavo: Octavo, tiny_model: Path) -> None:
    result = octavo(*QUICK, str(tiny_model))
    assert result.code == 0, result.err
    assert result.out.index("KV cache") < result.out.index("Paged KV cache")  # the report's order
    assert "tokens computed for prompt and answer" in result.out
    assert "A token's step computes one token instead of all that came before it." in result.out
    assert "Both sides gave the same tokens." in result.out
    assert "Continuous batching" not in result.out


def test_json_and_html(octavo: Octavo, tiny_model: Path, tmp_path: Path) -> None:
    json_file, html_file = tmp_path / "result.json", tmp_path / "result.html"
    result = octavo(*QUICK, str(tiny_model), "--json", str(json_file), "--html", str(html_file))
    assert result.code == 0, result.err
    report = json.loads(json_file.read_text())
    assert [each["name"] for each in report["techniques"]] == ["kv-cache", "paged-kv"]
    first = report["techniques"][0]["figures"][0]
    [ratio] = first["ratio"]["samples"]
    assert ratio == pytest.approx(first["off"]["median"] / first["on"]["median"])
    assert report["sizes"]["output_len"] == 4
    page = html_file.read_text().removeprefix("<!DOCTYPE html>")
    assert len(list(ElementTree.fromstring(page).iter("svg"))) == 2


def test_json_alone_on_stdout(octavo: Octavo, tiny_model: Path) -> None:
    report = json.loads(octavo(*QUICK, str(tiny_model), "--json", "-").out)
    assert report["benchmark"] == "techniques"
    assert report["repeats"] == 1


def test_what_this_model_cannot_show_has_its_reason(octavo: Octavo, tiny_model: Path) -> None:
    """A prompt of its short context fits one step, and float weights are not multiplied as bytes."""
    result = octavo(*LINE, str(tiny_model))
    assert result.code == 0, result.err
    assert all(technique.title in result.out for technique in TECHNIQUES)
    assert result.out.count("not measured:") == 2
    assert "the long prompt of 96 tokens fits one step of 512" in result.out
    assert "the model's weights are F32" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "magic"], "--only=magic is not a technique; use kv-cache, paged-kv"),
        (["--only", "int8-activations"], "--only int8-activations: the model's weights are F32"),
        (["--prefix-len", "100"], "--prefix-len=100 is more than 50% of the context of 128 tokens; give at most 64"),
        (["--repeats", "0"], "--repeats"),
        (["--html", "/nowhere/at/all.html"], "--html /nowhere/at/all.html: there is no such directory"),
        (["--batching", "static"], "--batching"),
    ],
)
def test_errors(octavo: Octavo, tiny_model: Path, arguments: list[str], message: str) -> None:
    result = octavo("bench", "techniques", str(tiny_model), *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
