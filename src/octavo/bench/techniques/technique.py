"""What a technique is to this benchmark: one thing that can be switched off, and what to look at when it is.

    Technique ──open(subject)──▶ measure(is_on, seed) ──▶ Sample

A technique is one file and one line of `registry`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

from octavo.bench.techniques.subject import Subject
from octavo.config.quantities import format_bytes
from octavo.core.strenum import StrEnum


class Unit(StrEnum):
    SECONDS = "seconds"
    BYTES = "bytes"
    TOKENS = "tokens"
    TOKENS_PER_S = "tokens/s"
    REQUESTS = "requests"
    SHARE = "share"

    def text(self, value: float) -> str:
        """As people read it: 7.6 ms, 512 MiB, 1,234 tokens/s, 96.1%."""
        match self:
            case Unit.SECONDS:
                return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s"
            case Unit.BYTES:
                return format_bytes(round(value))
            case Unit.SHARE:
                return f"{value:.1%}"
            case Unit.TOKENS_PER_S:
                return f"{value:,.0f}/s"
            case Unit.TOKENS | Unit.REQUESTS:
                return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A quantity that is measured with the technique on and off."""

    name: str
    label: str
    unit: Unit
    is_higher_better: bool = False


class PlotKind(StrEnum):
    LINES = "lines"
    BARS = "bars"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Two curves, on and off, over one axis."""

    name: str
    title: str
    x_label: str
    unit: Unit
    """Of y."""
    kind: PlotKind = PlotKind.LINES
    is_log: bool = False
    """Both axes."""


class Point(NamedTuple):
    x: float | str
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run, on or off."""

    values: Mapping[str, float]
    """Figure's name → value: one of each figure."""
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """Plot's name → curve: one of each plot."""
    outcome: str | None = None
    """A digest of what was computed, for techniques that must not change it: see `Technique.same`."""


Measure = Callable[[bool, int], Sample]
"""measure(is_on, seed): the same seed means the same work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    """One thing that can be switched off."""

    name: str
    title: str
    on: str
    off: str
    """What is run, as one phrase each."""
    figures: tuple[Figure, ...]
    """The first is the one that the technique is for."""
    plots: tuple[Plot, ...]
    because: str
    """Why it gains what it gains, in one sentence."""
    why: Callable[[Subject], str]
    """The same for this model, with the arithmetic: one short paragraph."""
    open: Callable[[Subject], AbstractContextManager[Measure]]
    """Load what the runs need; freed at the end of the block."""
    missing: Callable[[Subject], str | None] = lambda subject: None
    """Why this model, or this machine, cannot show it; None where it can."""
    same: str | None = None
    """What both sides must give alike, as their samples' outcomes tell; None where it may differ."""
    warm_up: int = 1
    """Runs of each side before the first that counts."""
