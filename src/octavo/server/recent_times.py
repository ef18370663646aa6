"""The last measured times of one kind, and their percentiles."""

import msgspec
import numpy as np


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of the last `count` times, in milliseconds, interpolated linearly; null where there are none yet."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class RecentTimes:
    """The last `capacity` times in memory that never grows. Used on the event loop only."""

    def __init__(self, capacity: int) -> None:
        self._times_s = np.zeros(capacity)
        self._num_added = 0

    def add(self, time_s: float) -> None:
        self._times_s[self._num_added % len(self._times_s)] = time_s
        self._num_added += 1

    def percentiles(self) -> Percentiles:
        """O(capacity)."""
        times_s = self._times_s[: self._num_added]
        if len(times_s) == 0:
            return Percentiles(count=0, p50_ms=None, p95_ms=None, p99_ms=None)
        p50, p95, p99 = (round(float(value), 3) for value in 1e3 * np.percentile(times_s, (50, 95, 99)))
        return Percentiles(count=len(times_s), p50_ms=p50, p95_ms=p95, p99_ms=p99)
