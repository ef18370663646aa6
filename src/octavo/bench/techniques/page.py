"""The result as one HTML page that needs nothing else: no script, no font, no image, no address outside itself."""

from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from octavo.bench.statistics import Summary
from octavo.bench.techniques.comparison import TechniqueResult
from octavo.bench.techniques.report import Row, row, same_text
from octavo.bench.techniques.svg import plot_svg
from octavo.config.quantities import format_bytes

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ground: #fbfbf9; --card: #fff; --ink: #1c1f23; --soft: #5c646d; --rule: #dfe1e4;
  --on: #0b7a75; --off: #b5651d; --good: #0b7a75; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #9aa3ad;
  --rule: #343a41; --on: #4fc3b8; --off: #e0a062; --good: #4fc3b8; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 0 0 .2rem; }
h3 { font-size: .9rem; font-weight: 600; margin: 1rem 0 .2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft { color: var(--soft); font-size: .9rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1.2rem; margin-top: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .38rem .7rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; white-space: normal; padding-left: 0; min-width: 7rem; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.gain { font-weight: 700; color: var(--good); } .loss { font-weight: 700; color: var(--bad); }
.even { font-weight: 700; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .2em; }
.both { display: grid; gap: 0 2rem; }
@media (min-width: 64rem) { .both { grid-template-columns: 1fr 1fr; } .both h3:first-child { margin-top: .4rem; } }
@media (max-width: 40rem) { table { font-size: .85rem; } th, td { padding: .38rem .4rem; } section { padding: .9rem; } }
svg { display: block; width: 100%; max-width: 40rem; height: auto; }
.key { display: inline-flex; align-items: center; gap: .4rem; margin-right: 1rem; }
.key i { width: .8rem; height: .8rem; border-radius: 2px; display: inline-block; }
i.on, .bar.on, .mark.on { background: var(--on); fill: var(--on); }
i.off, .bar.off, .mark.off { background: var(--off); fill: var(--off); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.on { stroke: var(--on); } .line.off { stroke: var(--off); }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); }
.label { fill: var(--soft); font-size: 12px; } .value { fill: var(--ink); font-size: 11px; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media print { section { break-inside: avoid; } }
"""


def html_page(report: dict[str, Any]) -> str:
    """From the report as JSON holds it."""
    results = read_results(report)
    title = f"What each technique gains: {report['model']['name']}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body><main>",
            f"<h1>{escape(title)}</h1>",
            *_circumstances(report),
            _summary(results),
            *(_section(result) for result in results),
            "</main></body>",
            "</html>\n",
        ]
    )


def read_results(report: dict[str, Any]) -> list[TechniqueResult]:
    """The techniques of a report, from its JSON or fresh. Raises `msgspec.ValidationError` for what is none."""
    return msgspec.convert(report["techniques"], list[TechniqueResult])


def _circumstances(report: dict[str, Any]) -> list[str]:
    model, hardware, software = report["model"], report["hardware"], report["software"]
    formats = " + ".join(sorted(model["weight_formats"]))
    machine = (
        f"{hardware['cpu']}, {report['threads']} threads, {report['isa']}, "
        f"{format_bytes(hardware['memory_bytes'])}; load {hardware['load_average']:.1f} when it was written"
    )
    return [
        "<p>The same work by the same code, with one technique on and off, in turn. "
        "A ratio above 1 is a gain; it has a colour where every repeat agrees.</p>",
        f'<p class="soft">{escape(model["name"])} ({escape(formats)}, {model["num_parameters"] / 1e6:.0f}M parameters) on '
        f"{escape(machine)}. Octavo {escape(software['octavo'])}, {escape(software['commit'] or 'no commit')}, "
        f"torch {escape(software['torch'])}; {escape(report['date'])}. Medians over {report['repeats']} repeats of each side; "
        "the ratio is the median of those of runs side by side, the range all of them.</p>",
        f'<p class="soft"><code>{escape(report["command"])}</code></p>',
        '<p class="soft"><span class="key"><i class="on"></i>on</span><span class="key"><i class="off"></i>off</span></p>',
    ]


def _summary(results: Sequence[TechniqueResult]) -> str:
    """One line a technique: the figure that it is for."""
    lines = []
    for result in results:
        name = f'<a href="#{escape(result.name)}">{escape(result.title)}</a>'
        if result.missing is None:
            first = row(result.figures[0])
            label = f'{name}<br/><span class="soft">{escape(first.label)}</span>'
            lines.append(_table_row(label, first, result.figures[0].ratio))
        else:
            lines.append(f'<tr><td>{name}</td><td colspan="4">not measured</td></tr>')
    return f"<section><h2>At a glance</h2>{_table(lines)}</section>"


def _section(result: TechniqueResult) -> str:
    head = f"<h2>{escape(result.title)}</h2>"
    sides = f'<p class="soft"><b>On:</b> {escape(result.on)}. <b>Off:</b> {escape(result.off)}.</p>'
    if result.missing is not None:
        body = f"<p>Not measured: {escape(result.missing)}.</p>"
    else:
        lines = [_table_row(escape(each.figure.label), row(each), each.ratio) for each in result.figures]
        same = same_text(result)
        plots = "".join(f"<div><h3>{escape(each.plot.title)}</h3>{plot_svg(each)}</div>" for each in result.plots)
        told = f"{_table(lines)}<p>{escape(result.because)} {escape(result.why)}</p>" + (
            f'<p class="soft">{escape(same)}</p>' if same else ""
        )
        body = f'<div class="both"><div>{told}</div><div>{plots}</div></div>'
    return f'<section id="{escape(result.name)}">{head}{sides}{body}</section>'


def _table(lines: Sequence[str]) -> str:
    head = "<thead><tr><th></th><th>on</th><th>off</th><th>ratio</th><th>range</th></tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _table_row(label: str, figures: Row, ratio: Summary) -> str:
    """`label` is HTML. A gain or a loss is one in every repeat."""
    kind = "gain" if ratio.min > 1 else "loss" if ratio.max < 1 else "even"
    cells = f'<td>{escape(figures.on)}</td><td>{escape(figures.off)}</td><td class="{kind}">{figures.ratio}</td>'
    return f'<tr><td>{label}</td>{cells}<td class="soft">{escape(figures.spread)}</td></tr>'
