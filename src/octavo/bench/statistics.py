"""Figures of repeated measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of one quantity; percentiles are interpolated linearly. The samples are in the order measured."""

    mean: float
    median: float
    p95: float
    p99: float
    min: float
    max: float
    samples: list[float]


def summarise(samples: Sequence[float]) -> Summary:
    """Of at least one sample. O(n log n)."""
    assert len(samples) > 0, "nothing was measured"
    median, p95, p99 = (float(value) for value in np.percentile(samples, (50, 95, 99)))
    return Summary(
        mean=float(np.mean(samples)),
        median=median,
        p95=p95,
        p99=p99,
        min=min(samples),
        max=max(samples),
        samples=list(samples),
    )
