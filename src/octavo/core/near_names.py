"""What somebody may have meant who wrote a name that is not known."""

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_CHARS = 200
_MOST_NAMES = 2000
_LEAST_ALIKE = 0.7
"""«stop» is not «top_p»."""


def near_names(name: str, known: Iterable[str], *, most: int = 1) -> list[str]:
    """The names like it, the likest first. `known` may come out of a file: so many names are compared, no more."""
    return difflib.get_close_matches(name[:_MOST_CHARS], list(islice(known, _MOST_NAMES)), n=most, cutoff=_LEAST_ALIKE)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """«did you mean …?», where one of them is near."""
    near = near_names(name, known)
    return f"did you mean {near[0]}?" if near else None
