"""`octavo bench serve`: measure a server over HTTP, this or any other."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.bench.serve.options import DEFAULT_URL, LoadConfig, PromptConfig, TargetConfig
from octavo.cli.bench_output import JsonTarget, check_target, command_line, write_json
from octavo.cli.bench_serve_table import print_result
from octavo.cli.failures import EXIT_FAILURE
from octavo.cli.help_page import HelpfulCommand
from octavo.cli.interrupts import EXIT_INTERRUPTED
from octavo.cli.options import ConfigOptions, with_options
from octavo.cli.terminal import stderr

if TYPE_CHECKING:
    from octavo.bench.serve.measure import Measurement, ServePlan, Watcher

_PANEL = "Benchmark"
_OBJECTIVE = re.compile(r"\w+:(?!//)")

Url = Annotated[str, typer.Argument(metavar="URL", show_default=False, help="The server's.")]
GoodputOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:MS …",
        rich_help_panel=_PANEL,
        help="Count requests that keep to these latencies in milliseconds: ttft, tpot, itl (its P99), e2e; such as "
        "ttft:500 tpot:50.",
    ),
]


class ServeCommand(HelpfulCommand):
    """Lets --goodput have several values: «--goodput ttft:500 tpot:50»."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        for argument in args:
            if joined[-2:-1] == ["--goodput"] and _OBJECTIVE.match(argument):
                joined[-1] += f" {argument}"
            else:
                joined.append(argument)
        rest: list[str] = super().parse_args(ctx, joined)
        return rest


@with_options(
    target=ConfigOptions(TargetConfig, panel="Server"),
    load=ConfigOptions(LoadConfig, panel="Load"),
    prompts=ConfigOptions(PromptConfig, panel="Prompts"),
)
def serve(
    url: Url = DEFAULT_URL,
    goodput: GoodputOption = None,
    json_target: JsonTarget = None,
    *,
    target: TargetConfig,
    load: LoadConfig,
    prompts: PromptConfig,
) -> None:
    """Measure a server over HTTP, this or any other. It must speak the OpenAI API; answers are streamed.

    Failed requests are counted with their reasons. Ctrl-C ends the run with what was measured so far. The exit code is 0
    if every request succeeded.
    """
    import asyncio

    from octavo.bench.serve.plan import make_plan

    plan = make_plan(url, target, load, prompts, goodput)
    check_target(json_target)
    measurement = asyncio.run(_measure(plan))
    if json_target is not None:
        from octavo.bench.serve.report import serve_report

        write_json(json_target, serve_report(command_line(), plan, measurement))
    if json_target != "-":
        print_result(plan, measurement)
    if measurement.result.num_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if measurement.result.num_failed:
        raise typer.Exit(EXIT_FAILURE)


async def _measure(plan: "ServePlan") -> "Measurement":
    """Ctrl-C stops the load; a second one, or one before it has begun, ends the command."""
    import asyncio

    from octavo.bench.serve.measure import Watcher, measure_server

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop_once() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    with _progress() as watcher:
        show_start = watcher.on_start

        def start(num_requests: int) -> None:
            loop.add_signal_handler(signal.SIGINT, stop_once)
            show_start(num_requests)

        return await measure_server(plan, stop, Watcher(start, watcher.on_done))


@contextmanager
def _progress() -> Iterator["Watcher"]:
    """A bar on a terminal, drawn twice a second: the client's time is the server's loss."""
    from octavo.bench.serve.measure import Watcher

    if not sys.stderr.isatty():
        yield Watcher()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr(), transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("warm-up", total=None)
        yield Watcher(
            lambda num_requests: progress.update(task, description="requests", total=num_requests),
            lambda record: progress.advance(task),
        )
