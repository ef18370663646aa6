"""Axes: round values that cover what is drawn."""

import pytest

from octavo.bench.techniques.svg import Scale, inner_ticks, log_ticks, ticks


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (8, [0, 2, 4, 6, 8]),
        (12.3, [0, 2.5, 5, 7.5, 10, 12.5]),
        (0, [0, 1]),
    ],
)
def test_ticks_go_from_zero_to_the_highest_or_beyond(high: float, expected: list[float]) -> None:
    assert ticks(high) == pytest.approx(expected)


@pytest.mark.parametrize("high", [1e-9, 0.00731, 3.3, 99.9, 100.1, 5e12])
def test_ticks_cover_without_much_room(high: float) -> None:
    values = ticks(high)
    assert values[-2] < high <= values[-1] * (1 + 1e-9)
    assert 3 <= len(values) <= 7


def test_inner_ticks_stay_inside() -> None:
    assert inner_ticks(257, 319) == pytest.approx([260, 280, 300])
    assert inner_ticks(0, 4.9) == pytest.approx([0, 1, 2, 3, 4])
    assert inner_ticks(7, 7) == [7]


def test_log_ticks_are_powers_around_the_values() -> None:
    assert log_ticks(0.003, 0.4, 10) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert log_ticks(0.01, 0.01, 10) == pytest.approx([0.01, 0.1])
    assert log_ticks(1 << 20, 1 << 26, 16) == pytest.approx([1 << 20, 1 << 24, 1 << 28])


def test_a_scale_maps_its_ends() -> None:
    across = Scale(2, 4, 100, 300)
    assert [across(value) for value in (2, 3, 4)] == [100, 200, 300]
    log = Scale(1, 100, 0, 10, is_log=True)
    assert [log(value) for value in (1, 10, 100)] == pytest.approx([0, 5, 10])
    assert Scale(3, 3, 50, 90)(3) == 50
