"""Plots as SVG elements of a page: no script, no resource, colours by the page's style sheet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from octavo.bench.techniques.comparison import PlotResult
from octavo.bench.techniques.technique import PlotKind, Point, Unit

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 26, 12, 44
NUM_TICKS = 5
MAX_MARKED_POINTS = 24
"""Curves of more points are lines alone."""
SIDES = ("on", "off")
LOG_BASE = {unit: 16 if unit is Unit.BYTES else 10 for unit in Unit}


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to pixels along one axis; `is_log` needs values above 0."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(each) if self.is_log else each for each in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)


def plot_svg(result: PlotResult) -> str:
    """One plot, with both curves and a title for readers that do not see it."""
    draw = _bars if result.plot.kind is PlotKind.BARS else _lines
    title = f"{result.plot.title}, on and off, by {result.plot.x_label or 'case'}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        + "\n".join(draw(result))
        + "\n</svg>"
    )


def _lines(result: PlotResult) -> list[str]:
    plot, curves = result.plot, dict(zip(SIDES, (result.on, result.off), strict=True))
    xs = [float(point.x) for curve in curves.values() for point in curve]
    ys = [point.y for curve in curves.values() for point in curve]
    x_low, x_high = (
        (min(xs), max(xs)) if plot.is_log else (min(0.0, *xs) if min(xs) < max(xs) / 4 else min(xs), max(xs))
    )
    y_ticks = log_ticks(min(ys), max(ys), LOG_BASE[plot.unit]) if plot.is_log else ticks(max(ys))
    across = Scale(x_low, x_high, LEFT, WIDTH - RIGHT, plot.is_log)
    up = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, plot.is_log)
    x_ticks = sorted(set(xs)) if plot.is_log else inner_ticks(x_low, x_high)
    parts = _y_axis(y_ticks, up, plot.unit)
    parts += [_text(across(tick), HEIGHT - BOTTOM + 18, f"{tick:,.4g}", "middle") for tick in x_ticks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, plot.x_label, "middle"))
    for side, curve in curves.items():
        path = " ".join(f"{across(float(point.x)):.1f},{up(point.y):.1f}" for point in curve)
        parts.append(f'<polyline class="line {side}" points="{path}"/>')
        if len(curve) <= MAX_MARKED_POINTS:
            parts += [_mark(point, side, plot.unit, across, up) for point in curve]
    return parts


def _mark(point: Point, side: str, unit: Unit, across: Scale, up: Scale) -> str:
    x = float(point.x)
    return (
        f'<circle class="mark {side}" cx="{across(x):.1f}" cy="{up(point.y):.1f}" r="3">'
        f"<title>{side}, {x:,.4g}: {escape(unit.text(point.y))}</title></circle>"
    )


def _bars(result: PlotResult) -> list[str]:
    """Two bars a case, each with its value above it."""
    plot = result.plot
    y_ticks = ticks(max(point.y for point in [*result.on, *result.off]))
    up = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP + 12)
    parts = _y_axis(y_ticks, up, plot.unit)
    slot = (WIDTH - LEFT - RIGHT) / len(result.on)
    width = min(44.0, slot * 0.36)
    for number, (on, off) in enumerate(zip(result.on, result.off, strict=True)):
        middle = LEFT + slot * (number + 0.5)
        for side, point, x in (("on", on, middle - width - 1), ("off", off, middle + 1)):
            top, text = up(point.y), plot.unit.text(point.y)
            parts.append(
                f'<rect class="bar {side}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{side}, {escape(str(point.x))}: {escape(text)}</title></rect>'
            )
            if len(result.on) <= NUM_TICKS:
                parts.append(_text(x + width / 2, top - 4, text, "middle", "value"))
        parts.append(_text(middle, HEIGHT - BOTTOM + 18, str(on.x), "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, plot.x_label, "middle"))
    return parts


def _y_axis(values: Sequence[float], up: Callable[[float], float], unit: Unit) -> list[str]:
    """A line across at each value, the lowest one stronger."""
    parts = []
    for number, value in enumerate(values):
        y = up(value)
        kind = "axis" if number == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, unit.text(value) if value else "0", "end"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(high: float) -> list[float]:
    """About `NUM_TICKS` round values from 0 up to at least `high`."""
    if high <= 0:
        return [0.0, 1.0]
    step = _round_step(high)
    return [number * step for number in range(math.ceil(high / step - 1e-9) + 1)]


def inner_ticks(low: float, high: float) -> list[float]:
    """About `NUM_TICKS` round values from `low` to `high`."""
    if high <= low:
        return [low]
    step = _round_step(high - low)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _round_step(span: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, about `NUM_TICKS` of which make the span."""
    rough = span / NUM_TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))


def log_ticks(low: float, high: float, base: int) -> list[float]:
    """Powers of the base around the values; all above 0."""
    first, last = (math.log(value) / math.log(base) for value in (low, high))
    lowest, highest = math.floor(first + 1e-9), math.ceil(last - 1e-9)
    return [float(base) ** exponent for exponent in range(lowest, max(highest, lowest + 1) + 1)]
