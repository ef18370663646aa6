"""How a command fails: one line on stderr, and the exit code."""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from octavo.cli.interrupts import EXIT_INTERRUPTED
from octavo.cli.terminal import stderr
from octavo.core.errors import OctavoError
from octavo.core.near_names import did_you_mean

EXIT_FAILURE = 1

_NO_SUCH_OPTION = re.compile(r"No such option: (?P<flag>-[\w-]+)")


@contextmanager
def reported(names: Sequence[str], *, debug: bool) -> Iterator[None]:
    """Turn an `OctavoError` into «error: …» and its exit code, and Ctrl-C into a quiet 130.

    The message's mentions of options, `names`, are spelt as on the command line: max_tokens → --max-tokens.
    """
    try:
        yield
    except OctavoError as error:
        if debug:
            traceback.print_exc()
        print_error(_with_flags(error.message, names))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # whoever read our output has gone, as in «octavo … | head»
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILURE) from None


def print_error(message: str) -> None:
    """«error: message», red, on stderr."""
    stderr().print("[bold red]error:[/] ", end="")
    stderr().print(message, markup=False, style="red", soft_wrap=True)


def print_usage_error(error: Any) -> None:
    """Say what is wrong with the command line, with the nearest known option, and where help is."""
    message = str(error.format_message())
    if not message:  # there were no arguments at all, and help was printed
        return
    unknown = _NO_SUCH_OPTION.match(message)
    if unknown is not None and error.ctx is not None:
        message = _unknown_option(unknown["flag"], error.ctx)
    print_error(message[:1].lower() + message[1:])
    if error.ctx is not None:
        stderr().print(f"see «{error.ctx.command_path} --help»", style="dim", soft_wrap=True)


def _unknown_option(flag: str, context: Any) -> str:
    known = [name for option in context.command.params for name in (*option.opts, *option.secondary_opts)]
    hint = did_you_mean(flag, [name for name in known if name.startswith("--")])
    return f"unknown option {flag}" + (f"; {hint}" if hint else "")


def _with_flags(message: str, names: Sequence[str]) -> str:
    """Names with an underscore anywhere, others, which may be words of a sentence, where a value is given: «threads=0»."""
    if not names:
        return message
    spelt = "|".join(rf"{name}\b" if "_" in name else rf"{name}(?==)" for name in names)
    return re.sub(rf"(?<![\w-])({spelt})(?![\w-])", lambda match: "--" + match[0].replace("_", "-"), message)
