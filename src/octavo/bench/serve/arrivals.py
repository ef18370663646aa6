"""When requests are sent: an open loop keeps to its times whatever the server does, a closed one waits for answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from octavo.core.errors import ConfigError


class Arrivals(Protocol):
    """A pattern of arrivals."""

    @property
    def max_in_flight(self) -> int | None:
        """Requests that the pattern itself has open at once at most; None where answers are not waited for."""

    def times(self, count: int, seed: int) -> Sequence[float]:
        """`count` times in seconds from the start, in order, repeatable by `seed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """All at once."""

    @property
    def max_in_flight(self) -> int | None:
        return None

    def times(self, count: int, seed: int) -> Sequence[float]:
        return [0.0] * count


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """`num_clients` clients, each sending its next request when the last one is answered."""

    num_clients: int

    @property
    def max_in_flight(self) -> int | None:
        return self.num_clients

    def times(self, count: int, seed: int) -> Sequence[float]:
        return [0.0] * count


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantRate:
    """One every 1 / `requests_per_s`."""

    requests_per_s: float

    def __post_init__(self) -> None:
        _check_rate(self.requests_per_s)

    @property
    def max_in_flight(self) -> int | None:
        return None

    def times(self, count: int, seed: int) -> Sequence[float]:
        return [number / self.requests_per_s for number in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Independent arrivals: the gaps are exponential with mean 1 / `requests_per_s`."""

    requests_per_s: float

    def __post_init__(self) -> None:
        _check_rate(self.requests_per_s)

    @property
    def max_in_flight(self) -> int | None:
        return None

    def times(self, count: int, seed: int) -> Sequence[float]:
        gaps = np.random.default_rng(seed).exponential(1 / self.requests_per_s, count)
        times: list[float] = np.cumsum(gaps).tolist()
        return times


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """`num_sources` sources, each sending every `period_s` from a phase of its own, uniform in the period."""

    num_sources: int
    period_s: float

    def __post_init__(self) -> None:
        if not 0 < self.period_s < float("inf"):
            raise ConfigError(
                f"period={self.period_s} is not a time above 0; write seconds, such as 2.5", param="period"
            )

    @property
    def max_in_flight(self) -> int | None:
        return None

    def times(self, count: int, seed: int) -> Sequence[float]:
        """Every period has the same order of sources, so the first `count` of them are in order."""
        phases = np.sort(np.random.default_rng(seed).uniform(0, self.period_s, self.num_sources))
        return [
            float(phases[number % self.num_sources]) + number // self.num_sources * self.period_s
            for number in range(count)
        ]


def _check_rate(requests_per_s: float) -> None:
    if not 0 < requests_per_s < float("inf"):
        raise ConfigError(
            f"request_rate={requests_per_s} is not a rate above 0; write requests a second, such as 4",
            param="request_rate",
        )
