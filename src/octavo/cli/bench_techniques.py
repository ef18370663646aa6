"""`octavo bench techniques`: what each technique gains here."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.bench_output import JsonTarget, check_target, command_line, write_json, write_text
from octavo.cli.options import engine_options, with_options
from octavo.cli.terminal import plain_table, stderr, stdout
from octavo.config import EngineConfig
from octavo.core.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.techniques.comparison import TechniqueResult
    from octavo.bench.techniques.subject import Subject
    from octavo.bench.techniques.technique import Technique

_ENGINE = engine_options(
    has_model_argument=True,
    left_out=(
        "seed",
        "max_num_seqs",
        "max_num_queued_reqs",
        "chat_template",
        "skip_tokenizer_init",
        "enable_prefix_caching",
        "enable_chunked_prefill",
        "batching",
        "scheduling_policy",
        "enforce_eager",
    ),
)
"""Without what the techniques themselves switch, and what they do not use."""

_PANEL = "Benchmark"
NAMES = (
    "kv-cache",
    "paged-kv",
    "continuous-batching",
    "chunked-prefill",
    "prefix-caching",
    "recorded-pass",
    "fused-kernels",
    "flash-attention",
    "int8-activations",
)
"""Of the registry, which this command does not import before it runs."""


def _size(help: str) -> Any:
    return typer.Option(min=1, metavar="N", rich_help_panel=_PANEL, help=help, show_default=False)


@with_options(config=_ENGINE)
def techniques(
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            rich_help_panel=_PANEL,
            help=f"This one; may be given again. One of {', '.join(NAMES)}.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", rich_help_panel=_PANEL, help="Measured runs of each side, in turn.")
    ] = 3,
    prompt_len: Annotated[int | None, _size("Tokens of an ordinary prompt. [default: 256]")] = None,
    output_len: Annotated[int | None, _size("Tokens of an answer. [default: 64]")] = None,
    num_requests: Annotated[int | None, _size("Requests for batching. [default: 32]")] = None,
    batch_size: Annotated[int | None, _size("Requests at once for batching. [default: 8]")] = None,
    long_prompt_len: Annotated[int | None, _size("Tokens of the prompt that others wait for. [default: 6000]")] = None,
    prefix_len: Annotated[int | None, _size("Tokens of the shared system prompt. [default: 1024]")] = None,
    json_target: JsonTarget = None,
    html_target: Annotated[
        str | None,
        typer.Option(
            "--html", metavar="FILE", rich_help_panel=_PANEL, help="Write a page with plots there, that opens offline."
        ),
    ] = None,
    *,
    config: EngineConfig,
) -> None:
    """Compare each technique with the same code without it, on and off in turn: what it gains here, and why.

    Ratios above 1 are gains; the range beside them is over the repeats. Sizes are made smaller for a model with a
    short context. The whole run takes a few minutes on two cores with the default model.
    """
    from octavo.bench.techniques.page import html_page
    from octavo.bench.techniques.registry import select
    from octavo.bench.techniques.report import techniques_report
    from octavo.bench.techniques.subject import open_subject

    selected = select(only or [])
    check_target(json_target)
    check_target(html_target, "html")
    sizes = {
        "prompt_len": prompt_len,
        "output_len": output_len,
        "num_requests": num_requests,
        "max_num_seqs": batch_size,
        "long_prompt_len": long_prompt_len,
        "prefix_len": prefix_len,
    }
    subject = open_subject(config, sizes)
    if only:
        _check_measurable(selected, subject)
    results = _compare_all(selected, subject, repeats)
    report = techniques_report(command_line(), subject, repeats, results)
    write_json(json_target, report)
    if html_target is not None:
        write_text(html_target, html_page(report), "html")
    if json_target != "-" and html_target != "-":
        _print(subject, repeats, results)


def _check_measurable(selected: Sequence["Technique"], subject: "Subject") -> None:
    """What was asked for by name and cannot be shown is an error. Raises `ConfigError`."""
    for technique in selected:
        missing = technique.missing(subject)
        if missing is not None:
            raise ConfigError(f"--only {technique.name}: {missing}", param="only")


def _compare_all(selected: Sequence["Technique"], subject: "Subject", repeats: int) -> list["TechniqueResult"]:
    from octavo.bench.techniques.comparison import compare, num_runs

    total = sum(num_runs(each, repeats) for each in selected if each.missing(subject) is None)
    with _progress(total) as (begin, advance):
        results = []
        for technique in selected:
            begin(technique.title)
            results.append(compare(technique, subject, repeats, advance))
    return results


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """(begin a technique, one run is done): a bar on stderr, gone at the end; terminals only."""
    if not sys.stderr.isatty():
        yield (lambda title: None), (lambda: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield (lambda title: progress.update(task, description=title)), (lambda: progress.advance(task))


def _print(subject: "Subject", repeats: int, results: Sequence["TechniqueResult"]) -> None:
    from octavo.bench.techniques.report import row, same_text

    info, console = subject.info, stdout()
    console.print(
        f"[bold]{info.model}[/], {info.options['device']}, {info.isa}, {info.options['threads']} threads; medians of "
        f"{repeats} runs on and off in turn; ×: how many times better with the technique, side by side\n"
    )
    table = plain_table("", "on", "off", "×", "range", right=True)
    table.columns[0].no_wrap = False
    for result in results:
        table.add_row(f"[bold]{result.title}[/]", "", "", "", "" if result.missing is None else "not measured")
        for figure in map(row, result.figures):
            table.add_row(f"  {figure.label}", figure.on, figure.off, f"[bold]{figure.ratio}[/]", figure.spread)
    console.print(table)
    for result in results:
        reason = f"not measured: {result.missing}." if result.missing else result.because
        console.print(f"\n[bold]{result.title}[/]: {reason} {same_text(result) or ''}")
