"""Names of tensors in messages: they come out of files, so they may be long, odd, or absent."""

from collections.abc import Iterable
from pathlib import Path

from octavo.core.errors import ModelFileError
from octavo.core.near_names import near_names

_MAX_SHOWN_CHARACTERS = 120


def printable(name: str) -> str:
    """`name` fit for a log line: escaped where it is not printable, and cut where it is long."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= _MAX_SHOWN_CHARACTERS else shown[:_MAX_SHOWN_CHARACTERS] + "…"


def missing_tensor(path: Path, name: str, present: Iterable[str]) -> ModelFileError:
    """The error that names what was asked for and the closest names that are there."""
    close = near_names(name, present, most=3)
    hint = f" (it has {', '.join(map(printable, close))})" if close else ""
    return ModelFileError(
        f"{path}: tensor {name!r} is missing{hint}; "
        "the file does not fit its architecture: download or convert it again",
        param=name,
    )
