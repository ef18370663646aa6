"""Values that a field must not have, and the place that the refusal names; those that endpoints share."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

BEYOND_VOCABULARY = 1 << 40
"""A token id that no model has."""


class Written(NamedTuple):
    """A value as a body has it, whose refusal is not 400 or names another place: none at all where it is no JSON."""

    text: str
    place: str | None = None
    status: int = 400


class BadValue(NamedTuple):
    field: str
    text: str
    place: str | None
    status: int


Places = dict[str, list[Any]]
"""By the place that the refusal names, which begins with the field: the values of the field that are refused so."""
UNKNOWN = ("colour", "temprature", "__class__", "a.b", "")


def bad_values(places: Places) -> Iterator[BadValue]:
    for place, values in places.items():
        name = re.match(r"[^.\[]*", place)
        field = name[0] if name and place not in UNKNOWN else place
        for value in values:
            written = value if isinstance(value, Written) else Written(json.dumps(value), place)
            yield BadValue(field, *written)


def absent(place: str, *names: str) -> list[Written]:
    """Names of nothing that there is."""
    return [Written(json.dumps(name), place, 404) for name in names]


NOT_UNICODE = Written('"\\ud800"')
NOT_FINITE = [Written("NaN"), Written("Infinity"), Written("-Infinity"), Written("1e400")]
HUGE = int("9" * 400)
NOT_NUMBERS = ["1", True, False, [], [1], {}, "NaN", *NOT_FINITE, HUGE]
NOT_WHOLE = [value for value in NOT_NUMBERS if value is not HUGE] + [0.5, 1.5, 1.0]
NOT_INT64 = [1 << 64, -(1 << 64), HUGE]
NOT_INTEGERS = [*NOT_WHOLE, *NOT_INT64]
NOT_BOOLEANS = ["true", 1, 0, [], {}, 1.5]
NOT_LISTS_OF_IDS = ["1", 1, True, {}, [-1], [1 << 63], [BEYOND_VOCABULARY]]
NOT_IDS = [["1"], [True], [1.5], [None]]
NOT_LISTS_OF_TEXTS = [1, True, {}, [""]]
NOT_TEXTS = [[1], [None], [[]]]
NO_LENGTHS = [0, -1, 1 << 62, 1 << 63]
NOT_LENGTHS = [*NOT_INTEGERS, *NO_LENGTHS]
UNKNOWN_FIELDS: Places = {name: [1, None, "x"] for name in UNKNOWN}
EVERYWHERE: Places = {
    "temperature": [*NOT_NUMBERS, -0.1, -1, 101, 1e300],
    "top_p": [*NOT_NUMBERS, 0, -0.1, -1, 1.1, 1.5],
    "top_k": [*NOT_INTEGERS, -2, 1 << 63],
    "timeout": [*NOT_NUMBERS, 0, -1, 86_401, 1e300],
    "priority": [*NOT_INTEGERS, 1, -1, 1 << 63, -(1 << 63)],
    "cache_salt": ["", 1, [], "x" * 1025, NOT_UNICODE],
    "model": [None, 1, [], {}, True, *absent("model", "", "other", "../x", "\0")],
    "stream": NOT_BOOLEANS,
    **UNKNOWN_FIELDS,
}
"""What every endpoint that answers calls the same."""
