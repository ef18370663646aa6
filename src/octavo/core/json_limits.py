"""Bounds on the shape of a JSON text, checked before anything is built from it.

A parser's work follows the number of values rather than of bytes: 16 MiB of «[],» would make five
million lists and hold every other request up for seconds.
"""

import numpy as np
import numpy.typing as npt

from octavo.core.errors import InvalidRequestError

MAX_JSON_DEPTH = 64
"""Objects and lists within each other."""
MAX_JSON_CONTAINERS = 1 << 16
"""Objects, lists and the fields of objects."""
MAX_JSON_VALUES = 1 << 20
"""Everything that commas separate."""

_CHUNK_BYTES = 1 << 20
_QUOTE = ord('"')


def _table(**weights: int) -> npt.NDArray[np.int8]:
    """Byte → weight, 0 for those that have none."""
    table = np.zeros(256, np.int8)
    for chars, weight in weights.items():
        for char in {"opening": "[{", "closing": "]}", "colon": ":", "comma": ","}[chars]:
            table[ord(char)] = weight
    return table


_STEPS = _table(opening=1, closing=-1)
_IS_CONTAINER = _table(opening=1, colon=1)
_IS_SEPARATOR = _table(comma=1)


def check_json_limits(data: bytes) -> None:
    """Raises `InvalidRequestError`. O(size), vectorised, in chunks of 1 MiB.

    A text that is not JSON may pass: a parser reads no further than its first mistake, and up to there
    the limits hold.
    """
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # every quote left begins or ends a string
    depth = num_containers = num_separators = num_quotes = 0
    for start in range(0, len(plain), _CHUNK_BYTES):
        chunk = np.frombuffer(plain, np.uint8, min(_CHUNK_BYTES, len(plain) - start), start)
        quotes = np.cumsum(chunk == _QUOTE, dtype=np.int32) + num_quotes
        num_quotes = int(quotes[-1])
        outside = chunk[(quotes & 1) == 0]
        if not len(outside):
            continue
        depths = np.cumsum(_STEPS[outside], dtype=np.int32) + depth
        depth = int(depths[-1])
        num_containers += int(np.count_nonzero(_IS_CONTAINER[outside]))
        num_separators += int(np.count_nonzero(_IS_SEPARATOR[outside]))
        _require("is nested deeper than", int(depths.max()), MAX_JSON_DEPTH, "levels")
        _require("has more than", num_containers, MAX_JSON_CONTAINERS, "objects, lists and fields")
        _require("has more than", num_separators, MAX_JSON_VALUES, "values")


def _require(what: str, got: int, most: int, unit: str) -> None:
    if got > most:
        raise InvalidRequestError(f"the JSON {what} {most} {unit}; send less in one request")
