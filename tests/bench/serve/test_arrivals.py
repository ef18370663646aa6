"""When requests are sent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.bench.serve.arrivals import Arrivals, Burst, Cameras, ClosedLoop, ConstantRate, Poisson
from octavo.core.errors import ConfigError

RATES = st.floats(0.1, 1000)
COUNTS = st.integers(1, 300)
SEEDS = st.integers(0, 2**31 - 1)
PATTERNS = st.one_of(
    st.just(Burst()),
    st.builds(ClosedLoop, num_clients=st.integers(1, 64)),
    st.builds(ConstantRate, requests_per_s=RATES),
    st.builds(Poisson, requests_per_s=RATES),
    st.builds(Cameras, num_sources=st.integers(1, 20), period_s=st.floats(0.01, 60)),
)


@given(PATTERNS, COUNTS, SEEDS)
def test_times_are_in_order_as_many_as_asked_for_and_repeat(pattern: Arrivals, count: int, seed: int) -> None:
    times = list(pattern.times(count, seed))
    assert len(times) == count
    assert times == sorted(times)
    assert times[0] >= 0
    assert times == list(pattern.times(count, seed))


def test_a_burst_and_a_closed_loop_begin_at_once() -> None:
    assert list(Burst().times(3, 0)) == list(ClosedLoop(num_clients=2).times(3, 0)) == [0.0] * 3
    assert Burst().max_in_flight is None
    assert ClosedLoop(num_clients=2).max_in_flight == 2


def test_a_constant_rate_has_equal_gaps() -> None:
    assert list(ConstantRate(requests_per_s=4).times(4, 0)) == [0.0, 0.25, 0.5, 0.75]


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    """Mean and standard deviation are 1 / rate, and the share above the mean is 1 / e: within four standard errors."""
    count, rate = 20_000, 5.0
    times = np.array(Poisson(requests_per_s=rate).times(count, 1))
    gaps = np.diff(times, prepend=0.0)
    assert gaps.mean() == pytest.approx(1 / rate, rel=4 / count**0.5)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.05)
    assert (gaps > 1 / rate).mean() == pytest.approx(np.exp(-1), abs=4 * 0.5 / count**0.5)
    assert list(times[:5]) != list(Poisson(requests_per_s=rate).times(5, 2))


@given(st.integers(1, 10), st.floats(0.1, 10), st.integers(1, 5), SEEDS)
def test_each_camera_keeps_its_period_and_its_own_phase(
    num_sources: int, period_s: float, num_periods: int, seed: int
) -> None:
    times = np.array(Cameras(num_sources=num_sources, period_s=period_s).times(num_sources * num_periods, seed))
    by_source = times.reshape(num_periods, num_sources)
    assert ((by_source[0] >= 0) & (by_source[0] < period_s)).all()
    assert len(set(by_source[0])) == num_sources
    assert np.allclose(np.diff(by_source, axis=0), period_s)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("pattern", [ConstantRate, Poisson])
def test_a_rate_is_above_zero(pattern: type, rate: float) -> None:
    with pytest.raises(ConfigError, match="is not a rate above 0"):
        pattern(requests_per_s=rate)


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan"), float("inf")])
def test_a_period_is_above_zero(period: float) -> None:
    with pytest.raises(ConfigError, match="is not a time above 0"):
        Cameras(num_sources=1, period_s=period)
