"""Suggestions for names that are not known."""

import pytest

from octavo.core.near_names import did_you_mean, near_names


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("temprature", ["top_p", "temperature"], "did you mean temperature?"),
        ("--max-len", ["--max-model-len", "--model"], "did you mean --max-model-len?"),
        ("stop", ["top_p"], None),
        ("anything", [], None),
    ],
)
def test_the_nearest_is_named_where_one_is_near(name: str, known: list[str], meant: str | None) -> None:
    assert did_you_mean(name, known) == meant


def test_several_come_likest_first() -> None:
    assert near_names("layer.11", ["bias", "layer.2", "layer.1"], most=3)[0] == "layer.1"


def test_what_is_compared_is_bounded() -> None:
    assert near_names("x" * 10_000, ["x" * 200]) == ["x" * 200]
    assert near_names("name", ("name" if number == 2000 else "other" for number in range(2001))) == []
