"""Turns, ratios and their spread, on figures that are made up."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from octavo.bench.techniques.comparison import MAX_CURVE_POINTS, compare, num_runs, thinned
from octavo.bench.techniques.report import row, same_text
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit

TIME = Figure(name="time", label="time", unit=Unit.SECONDS)
RATE = Figure(name="rate", label="rate", unit=Unit.TOKENS_PER_S, is_higher_better=True)
SUBJECT: Any = None


class Scripted:
    """Gives the next value of each side, and notes who was asked."""

    def __init__(self, on: Sequence[float], off: Sequence[float], *, different: int | None = None) -> None:
        self.values = {True: iter(on), False: iter(off)}
        self.asked: list[tuple[bool, int]] = []
        self.different = different
        self.is_open = False

    @contextmanager
    def open(self, subject: Any) -> Iterator[Measure]:
        self.is_open = True
        yield self.measure
        self.is_open = False

    def measure(self, is_on: bool, seed: int) -> Sample:
        assert self.is_open
        self.asked.append((is_on, seed))
        value = next(self.values[is_on])
        outcome = f"{seed}, {is_on}" if seed == self.different else str(seed)
        return Sample(values={"time": value, "rate": 1 / value}, curves={"curve": [Point(0, value)]}, outcome=outcome)


def technique(script: Scripted, **changes: Any) -> Technique:
    fields: dict[str, Any] = {
        "name": "scripted",
        "title": "Scripted",
        "on": "with it",
        "off": "without",
        "figures": (TIME, RATE),
        "plots": (Plot(name="curve", title="Curve", x_label="x", unit=Unit.SECONDS),),
        "because": "It is so.",
        "why": lambda subject: "It was written.",
        "open": script.open,
        "same": "values",
    }
    return Technique(**{**fields, **changes})


def test_sides_take_turns_and_who_is_first_alternates() -> None:
    script = Scripted([9, 1, 1, 1], [9, 2, 2, 2])
    runs: list[None] = []
    made = technique(script)
    compare(made, SUBJECT, 3, lambda: runs.append(None))
    sides = [is_on for is_on, _ in script.asked]
    assert sides == [True, False, False, True, True, False, False, True]
    assert [seed for _, seed in script.asked] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(runs) == num_runs(made, 3) == 8
    assert not script.is_open


def test_ratios_are_of_pairs_and_warm_up_is_left_out() -> None:
    result = compare(technique(Scripted([99, 1, 2, 4], [99, 3, 8, 8])), SUBJECT, 3)
    time, rate = result.figures
    assert time.ratio.samples == [3, 4, 2]
    assert (time.ratio.median, time.ratio.min, time.ratio.max) == (3, 2, 4)
    assert (time.on.median, time.off.median) == (2, 8)
    assert rate.ratio.samples == pytest.approx([3, 4, 2])  # twice the rate is as good as half the time
    assert row(time).ratio == "3×"
    assert row(time).spread == "2 – 4"


def test_the_curve_shown_is_of_the_median_repeat() -> None:
    result = compare(technique(Scripted([1, 2, 4], [3, 8, 8]), warm_up=0), SUBJECT, 3)
    assert (result.plots[0].on, result.plots[0].off) == ([Point(0, 1)], [Point(0, 3)])


def test_a_loss_is_a_ratio_below_one() -> None:
    result = compare(technique(Scripted([4], [3]), warm_up=0), SUBJECT, 1)
    assert row(result.figures[0]).ratio == "0.75×"
    assert row(result.figures[0]).spread == ""


@pytest.mark.parametrize(
    ("different", "told"),
    [(None, "Both sides gave the same values."), (2, "The two sides did not give the same values.")],
)
def test_other_outcomes_are_told(different: int | None, told: str) -> None:
    result = compare(technique(Scripted([1] * 3, [1] * 3, different=different), warm_up=0), SUBJECT, 3)
    assert result.is_same is (different is None)
    assert same_text(result) == told


def test_nothing_is_told_of_outcomes_that_may_differ() -> None:
    result = compare(technique(Scripted([1], [1], different=0), warm_up=0, same=None), SUBJECT, 1)
    assert result.is_same is None
    assert same_text(result) is None


def test_what_is_missing_is_not_run() -> None:
    script = Scripted([], [])
    result = compare(technique(script, missing=lambda subject: "no such weights"), SUBJECT, 3)
    assert (result.missing, result.figures, script.asked) == ("no such weights", [], [])


@pytest.mark.parametrize("count", [1, 199, 200, 201, 1000])
def test_long_curves_are_thinned_and_keep_their_ends(count: int) -> None:
    curve = [Point(number, 1.0) for number in range(count)]
    points = thinned(curve)
    assert len(points) <= MAX_CURVE_POINTS
    assert (points[0], points[-1]) == (curve[0], curve[-1])


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.SECONDS, 0.00764, "7.64 ms"),
        (Unit.SECONDS, 3.456, "3.46 s"),
        (Unit.BYTES, 1 << 20, "1 MiB"),
        (Unit.SHARE, 0.9612, "96.1%"),
        (Unit.TOKENS, 18400, "18,400"),
        (Unit.REQUESTS, 4.0, "4"),
        (Unit.REQUESTS, 68.62, "68.6"),
        (Unit.TOKENS_PER_S, 1234.4, "1,234/s"),
    ],
)
def test_units(unit: Unit, value: float, text: str) -> None:
    assert unit.text(value) == text
