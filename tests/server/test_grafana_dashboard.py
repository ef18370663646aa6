"""The Grafana dashboard asks for series that exist, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from server.conftest import InProcess

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana-dashboard.json").read_text())
SERIES = re.compile(r"([a-zA-Z_][a-zA-Z0-9_:]*)(?=[{\[])")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
MATCHED = re.compile(r"\{([^}]*)\}")
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def labels_of(server: InProcess) -> dict[str, set[str]]:
    server.complete("Hi", max_tokens=1)
    labels: dict[str, set[str]] = {}
    server.get("/health")
    server.get("/nowhere")
    for family in text_string_to_metric_families(server.get("/metrics").text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.mark.parametrize(("title", "expression"), list(expressions()), ids=lambda text: text[:50])
def test_every_series_exists_with_its_labels(server: InProcess, title: str, expression: str) -> None:
    labels = labels_of(server)
    names = SERIES.findall(expression)
    assert names
    assert set(names) <= set(labels)
    asked = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
    asked |= {matcher.split("=")[0] for group in MATCHED.findall(expression) for matcher in group.split(",")}
    for name in names:
        assert asked <= labels[name] | SCRAPED


def test_variables_ask_for_series_that_exist(server: InProcess) -> None:
    queried: list[dict[str, Any]] = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    labels = labels_of(server)
    for variable in queried:
        series, label = re.fullmatch(r"label_values\(([\w:]+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        assert label in labels[series] | SCRAPED
    assert {variable["name"] for variable in queried} == {"model_name", "job"}


def test_the_check_would_see_a_series_that_is_not_there(server: InProcess) -> None:
    assert SERIES.findall('sum(rate(vllm:nowhere{a="b"}[5m]))') == ["vllm:nowhere"]
    assert "vllm:nowhere" not in labels_of(server)


def test_every_panel_has_its_own_id_and_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) == len(set(places))
