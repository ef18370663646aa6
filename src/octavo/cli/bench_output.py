"""The JSON that a benchmark writes, and the command line that it names."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.core.errors import ConfigError

JsonTarget = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", rich_help_panel="Benchmark", help="Write the whole result there; -: to stdout."
    ),
]
_SECRET = "--api-key"


def command_line() -> str:
    """As it was given, but for a key."""
    shown = ["octavo"]
    for argument in sys.argv[1:]:
        is_value = shown[-1] == _SECRET
        shown.append("***" if is_value else f"{_SECRET}=***" if argument.startswith(f"{_SECRET}=") else argument)
    return shlex.join(shown)


def check_target(target: str | None) -> None:
    """A mistyped path is better found before the run than after it. Raises `ConfigError`."""
    if target is not None and target != "-" and not Path(target).absolute().parent.is_dir():
        raise ConfigError(f"--json {target}: there is no such directory; make it, or name another", param="json")


def write_json(target: str | None, report: dict[str, Any]) -> None:
    """Nothing where there is no target. Raises `ConfigError`."""
    if target is None:
        return
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {target} cannot be written: {error.strerror}", param="json") from error
