"""What a figure's script hands back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.bench.statistics import summarise


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


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """How many samples there are, and how they spread; their number alone where there are none."""
    if not seconds:
        return {"samples": 0}
    of = summarise([each * 1e3 for each in seconds])
    spread = {"median": of.median, "p95": of.p95, "p99": of.p99, "max": of.max}
    return {"samples": len(seconds), **{name: round(value, 1) for name, value in spread.items()}}
