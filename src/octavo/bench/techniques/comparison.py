"""Run a technique on and off in turn, and what comes of it: both figures, their ratio, and its spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from octavo.bench.statistics import Summary, summarise
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Plot, Point, Sample, Technique

MAX_CURVE_POINTS = 200
"""Of a curve that is kept."""

OnRun = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureResult:
    """Over the repeats. A ratio of 2 means twice as good with the technique, of 0.9 that it costs a tenth."""

    figure: Figure
    on: Summary
    off: Summary
    ratio: Summary
    """Of the two runs of each repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotResult:
    """The curves of one repeat: the one whose first figure has the median ratio."""

    plot: Plot
    on: list[Point]
    off: list[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class TechniqueResult:
    name: str
    title: str
    on: str
    off: str
    because: str
    why: str = ""
    missing: str | None = None
    """Why it was not measured; None where it was."""
    same: str | None = None
    """What both sides must give alike."""
    is_same: bool | None = None
    """Whether they did, in every repeat; None where nothing must be."""
    figures: list[FigureResult] = field(default_factory=list)
    plots: list[PlotResult] = field(default_factory=list)


def compare(technique: Technique, subject: Subject, repeats: int, on_run: OnRun = lambda: None) -> TechniqueResult:
    """Run both sides `warm_up` times unmeasured and then `repeats` times, in turn; `on_run` is told of each run."""
    described = {name: getattr(technique, name) for name in ("name", "title", "on", "off", "because")}
    missing = technique.missing(subject)
    if missing is not None:
        return TechniqueResult(**described, missing=missing)
    pairs = []
    with technique.open(subject) as measure:
        for number in range(technique.warm_up + repeats):
            samples = {}
            for is_on in order(number):
                samples[is_on] = measure(is_on, number)
                on_run()
            if number >= technique.warm_up:
                pairs.append((samples[True], samples[False]))
    return TechniqueResult(
        **described,
        why=technique.why(subject),
        same=technique.same,
        is_same=None if technique.same is None else all(on.outcome == off.outcome for on, off in pairs),
        figures=[_figure_result(figure, pairs) for figure in technique.figures],
        plots=_plot_results(technique, pairs),
    )


def order(number: int) -> tuple[bool, bool]:
    """On first, then off, then the other way round: a drift of the machine's speed favours neither."""
    return (True, False) if number % 2 == 0 else (False, True)


def num_runs(technique: Technique, repeats: int) -> int:
    """How often `compare` calls `on_run` of a technique that can be measured."""
    return 2 * (technique.warm_up + repeats)


def ratio(figure: Figure, on: float, off: float) -> float:
    """How many times better it is with the technique."""
    return on / off if figure.is_higher_better else off / on


def _figure_result(figure: Figure, pairs: Sequence[tuple[Sample, Sample]]) -> FigureResult:
    on, off = ([sample.values[figure.name] for sample in side] for side in zip(*pairs, strict=True))
    return FigureResult(
        figure=figure,
        on=summarise(on),
        off=summarise(off),
        ratio=summarise([ratio(figure, *values) for values in zip(on, off, strict=True)]),
    )


def _plot_results(technique: Technique, pairs: Sequence[tuple[Sample, Sample]]) -> list[PlotResult]:
    first = technique.figures[0]
    ratios = [ratio(first, on.values[first.name], off.values[first.name]) for on, off in pairs]
    on, off = pairs[ratios.index(median_low(ratios))]
    return [
        PlotResult(plot=plot, on=thinned(on.curves[plot.name]), off=thinned(off.curves[plot.name]))
        for plot in technique.plots
    ]


def thinned(curve: Sequence[Point]) -> list[Point]:
    """Every k-th point, so that at most `MAX_CURVE_POINTS` are left, and the last."""
    stride = -(-len(curve) // (MAX_CURVE_POINTS - 1))
    points = list(curve[::stride])
    return points if points[-1] == curve[-1] else [*points, curve[-1]]
