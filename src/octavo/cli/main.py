"""The `octavo` command."""

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import octavo
from octavo.cli.bench import bench
from octavo.cli.chat import chat
from octavo.cli.explain import explain
from octavo.cli.failures import EXIT_FAILURE, print_usage_error
from octavo.cli.generate import generate
from octavo.cli.help_page import HelpfulCommand, HelpfulGroup
from octavo.cli.info import info
from octavo.cli.interrupts import EXIT_INTERRUPTED
from octavo.cli.models import models
from octavo.cli.pull import pull
from octavo.cli.serve import serve

_EPILOG = """\
Examples
  octavo chat                        talk to the default model
  octavo serve smollm2 --port 8000   serve it over the OpenAI API
  octavo serve --help                every option of the engine

Exit codes
  0 done, 1 failed, 2 what was asked is wrong, 130 Ctrl-C; of a server that is asked to end, 0"""

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that it cannot read; it names this class differently from version to version."""

app = typer.Typer(
    cls=HelpfulGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_RUN, _MODELS = "Run a model", "Models and machine"
for _function, _panel in (
    (generate, _RUN),
    (chat, _RUN),
    (serve, _RUN),
    (models, _MODELS),
    (pull, _MODELS),
    (info, _MODELS),
):
    app.command(cls=HelpfulCommand, rich_help_panel=_panel)(_function)
app.add_typer(bench, name="bench", rich_help_panel=_RUN)
app.add_typer(explain, name="explain", rich_help_panel=_MODELS)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"octavo {octavo.__version__}")
        raise typer.Exit


@app.callback()
def _octavo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LLM inference and serving on your own hardware."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 where it failed, 2 where what was asked is wrong, 130 for Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        code = app(args=list(arguments), prog_name="octavo", standalone_mode=False)
    except USAGE_ERROR as error:
        print_usage_error(error)
        return int(getattr(error, "exit_code", EXIT_FAILURE))
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code or 0
