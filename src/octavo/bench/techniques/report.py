"""The result as JSON, and as rows of a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from octavo.bench.report import engine_circumstances
from octavo.bench.techniques.comparison import FigureResult, TechniqueResult
from octavo.bench.techniques.subject import Subject


def techniques_report(
    command: str, subject: Subject, repeats: int, results: Sequence[TechniqueResult]
) -> dict[str, Any]:
    """All figures with all samples, the curves, and the circumstances."""
    return {
        "benchmark": "techniques",
        "techniques": [asdict(result) for result in results],
        "repeats": repeats,
        "sizes": asdict(subject.sizes),
        **engine_circumstances(command, subject.info),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, in words."""

    label: str
    on: str
    off: str
    ratio: str
    spread: str
    """The least and the greatest ratio; empty where all repeats gave the same."""


def row(result: FigureResult) -> Row:
    unit, ratios = result.figure.unit, result.ratio
    low, high = ratio_text(ratios.min), ratio_text(ratios.max)
    return Row(
        label=result.figure.label,
        on=unit.text(result.on.median),
        off=unit.text(result.off.median),
        ratio=f"{ratio_text(ratios.median)}×",
        spread="" if low == high else f"{low} – {high}",
    )


def ratio_text(value: float) -> str:
    """0.92, 1.85, 13.4, 131."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def same_text(result: TechniqueResult) -> str | None:
    """What comparing the outcomes showed, as a sentence; None where they are not compared."""
    match result.is_same:
        case None:
            return None
        case True:
            return f"Both sides gave the same {result.same}."
        case False:
            return f"The two sides did not give the same {result.same}."
