"""Percentiles of the last times."""

import numpy as np
import pytest

from octavo.server.recent_times import Percentiles, RecentTimes


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 250])
def test_percentiles_are_of_the_last_times(count: int) -> None:
    times = RecentTimes(100)
    given = np.random.default_rng(count).uniform(0.001, 2.0, count)
    for time_s in given:
        times.add(time_s)
    p50, p95, p99 = 1e3 * np.percentile(given[-100:], (50, 95, 99))
    found = times.percentiles()
    assert found.count == min(count, 100)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((p50, p95, p99), abs=1e-3)


def test_of_nothing_there_are_none() -> None:
    assert RecentTimes(3).percentiles() == Percentiles(count=0, p50_ms=None, p95_ms=None, p99_ms=None)
