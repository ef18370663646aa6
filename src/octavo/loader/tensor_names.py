"""Names of tensors in messages: they come out of files, so they may be long, odd, or absent."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from octavo.core.errors import ModelFileError

_MAX_SHOWN_CHARACTERS = 120
_MAX_COMPARED_NAMES = 2000


def printable(name: str) -> str:
    """`name` fit for a log line: escaped where it is not printable, and cut where it is long."""
    shown = name if name.isprintable() else ascii(name)
    return shown if len(shown) <= _MAX_SHOWN_CHARACTERS else shown[:_MAX_SHOWN_CHARACTERS] + "…"


def missing_tensor(path: Path, name: str, present: Iterable[str]) -> ModelFileError:
    """The error that names what was asked for and the closest names that are there."""
    close = get_close_matches(name, list(islice(present, _MAX_COMPARED_NAMES)), n=3)
    hint = f" (it has {', '.join(map(printable, close))})" if close else ""
    return ModelFileError(
        f"{path}: tensor {name!r} is missing{hint}; "
        "the file does not fit its architecture: download or convert it again",
        param=name,
    )
