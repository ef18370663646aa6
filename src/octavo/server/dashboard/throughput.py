"""Tokens a second, from totals that are read now and then."""

from collections import deque
from typing import NamedTuple

from octavo.server.dashboard.schema import Throughput

NUM_READINGS = 9
"""Two seconds of readings a quarter of a second apart."""


class _Reading(NamedTuple):
    time_s: float
    num_generated_tokens: int
    num_prefilled_tokens: int


class ThroughputMeter:
    """Between the oldest and the newest of the last `NUM_READINGS` readings."""

    def __init__(self, time_s: float) -> None:
        self._readings = deque([_Reading(time_s, 0, 0)], maxlen=NUM_READINGS)

    def read(self, time_s: float, num_generated_tokens: int, num_prefilled_tokens: int) -> Throughput:
        """Take a reading, later than the one before."""
        newest = _Reading(time_s, num_generated_tokens, num_prefilled_tokens)
        self._readings.append(newest)
        oldest = self._readings[0]
        seconds = time_s - oldest.time_s
        return Throughput(
            generated=round((num_generated_tokens - oldest.num_generated_tokens) / seconds, 1),
            prefilled=round((num_prefilled_tokens - oldest.num_prefilled_tokens) / seconds, 1),
        )
