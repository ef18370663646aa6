"""What somebody may have meant who wrote a name that is not known."""

import difflib
from collections.abc import Collection

_MOST_CHARS = 64
_LEAST_ALIKE = 0.7
"""«stop» is not «top_p»."""


def did_you_mean(name: str, known: Collection[str]) -> str | None:
    """«did you mean …?», where one of them is near."""
    near = difflib.get_close_matches(name[:_MOST_CHARS], known, n=1, cutoff=_LEAST_ALIKE)
    return f"did you mean {near[0]}?" if near else None
