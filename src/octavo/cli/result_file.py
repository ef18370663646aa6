"""Where a benchmark's result goes: a file that is named, or stdout."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from octavo.core.errors import ConfigError


def command_line() -> str:
    """This command, as it was given."""
    return shlex.join(["octavo", *sys.argv[1:]])


def check_target(target: str | None, name: str = "json") -> None:
    """A mistyped path is better found before the run than after it. Raises `ConfigError`."""
    if target is not None and target != "-" and not Path(target).absolute().parent.is_dir():
        raise ConfigError(f"--{name} {target}: there is no such directory; make it, or name another", param=name)


def write_json(target: str | None, report: dict[str, Any]) -> None:
    """Raises `ConfigError` where it cannot be written."""
    write_text(target, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def write_text(target: str | None, text: str, name: str = "json") -> None:
    """To a file, to stdout for «-», nowhere for None. Raises `ConfigError` where it cannot be written."""
    if target is None:
        return
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--{name} {target} cannot be written: {error.strerror}", param=name) from error
