"""What endpoints call a field that the code they share calls otherwise."""

import re
from collections.abc import Mapping, Sequence

from octavo.core.errors import OctavoError

FieldNames = Sequence[tuple[str, str]]
"""Patterns of names, or of how they begin → what they are called instead; the first that fits counts."""

_CALLED = re.compile(r"messages\[\d+\]\.tool_calls\[\d+\]\.function")


def rename_field(error: OctavoError, names: FieldNames) -> None:
    """Have `error` say the field at fault as the client knows it: in `param`, and where the message begins with it."""
    for pattern, name in names:
        known = re.compile(rf"\A(?:{pattern})(?!\w)")
        found = known.match(error.message if error.param is None else error.param)
        if found is not None:
            error.param = known.sub(name, error.param or found[0])
            error.message = known.sub(name, error.message)
            return


def rename_shape(error: OctavoError, field: str) -> None:
    """The same for the shape of an answer, which the engine knows as `structured_outputs`, made from `field`."""
    if field != "structured_outputs":
        rename_field(error, ((r"structured_outputs(\.\w+)?", field),))


def rename_call(error: OctavoError, calls: Mapping[str, str]) -> None:
    """The same for the function that a message calls, which the client knows as what `calls` has for it."""
    found = _CALLED.match(error.message if error.param is None else error.param)
    if found is not None and found[0] in calls:
        rename_field(error, ((re.escape(found[0]), calls[found[0]]),))
