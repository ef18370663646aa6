"""What a figure's script hands back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    asked: str
    measured: dict[str, Any]
    is_met: bool


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much of the full size is run: a smaller one tries the script."""

    share: float = 1.0
    soak_minutes: float = 30.0

    def of(self, full: int, least: int = 1) -> int:
        return max(least, round(self.share * full))


Measure = Callable[[Effort], Finding]


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
