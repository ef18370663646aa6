"""Where a JSON value ends, in a text that arrives character by character."""

from octavo.core.strenum import StrEnum

_CLOSERS = {"{": "}", "[": "]"}
_SCALAR_PUNCTUATION = "+-."


class Extent(StrEnum):
    """Where a value stands after one more character."""

    INSIDE = "inside"
    LAST = "last"
    """The character is the value's last."""
    PAST = "past"
    """The value ended before the character."""
    BROKEN = "broken"
    """The character cannot be in a value."""


class JsonExtent:
    """Follows one value by its brackets and strings alone; whether it is sound JSON else is for its reader to say.

    Outside strings, a bracket that closes another's, or a «<», which begins the markers of tool calls, breaks it.
    """

    def __init__(self) -> None:
        self._closers: list[str] = []
        self._is_in_string = False
        self._is_escaped = False
        self._is_scalar = False

    def read(self, char: str) -> Extent:
        """Take the next character. Not to be called once the value has ended."""
        if self._is_in_string:
            return self._read_string(char)
        if self._is_scalar:
            return Extent.INSIDE if char.isalnum() or char in _SCALAR_PUNCTUATION else Extent.PAST
        if char == '"':
            self._is_in_string = True
        elif char in _CLOSERS:
            self._closers.append(_CLOSERS[char])
        elif not self._closers:
            self._is_scalar = char.isalnum() or char in _SCALAR_PUNCTUATION
            return Extent.INSIDE if self._is_scalar else Extent.BROKEN
        elif char in "}]":
            if self._closers.pop() != char:
                return Extent.BROKEN
            return Extent.INSIDE if self._closers else Extent.LAST
        elif char == "<":
            return Extent.BROKEN
        return Extent.INSIDE

    def _read_string(self, char: str) -> Extent:
        if self._is_escaped:
            self._is_escaped = False
        elif char == "\\":
            self._is_escaped = True
        elif char == '"':
            self._is_in_string = False
            return Extent.INSIDE if self._closers else Extent.LAST
        return Extent.INSIDE
