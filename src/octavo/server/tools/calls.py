"""One tool call, read character by character: its name, and its arguments as they come."""

import json
import re
from typing import Any, Protocol

from octavo.core.strenum import StrEnum
from octavo.server.schemas import MAX_CALLED_NAME_CHARS
from octavo.server.tools.json_extent import Extent, JsonExtent

ARGUMENTS_KEYS = ("arguments", "parameters")


class CallStatus(StrEnum):
    OPEN = "open"
    DONE = "done"
    """The character just read was the call's last."""
    BROKEN = "broken"
    """The character just read is not the call's: what came before it was no call, or is all of one."""


class CallReader(Protocol):
    """Reads one call. It has begun when `name` is known and an argument's first character has come."""

    @property
    def name(self) -> str | None: ...

    def read(self, char: str) -> CallStatus: ...

    def take_arguments(self) -> str:
        """The characters of the arguments since this was last asked."""


class JsonCall:
    """`{"name": …, "arguments": …}`, the two in any order, other fields passed over; Llama says `parameters`."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._step = self._read_opening
        self._extent = JsonExtent()
        self._key = ""
        self._chars: list[str] = []
        self._arguments: list[str] = []
        self._has_arguments = False

    def read(self, char: str) -> CallStatus:
        return self._step(char)

    def take_arguments(self) -> str:
        if self.name is None:
            return ""
        taken = "".join(self._arguments)
        self._arguments.clear()
        return taken

    def _read_opening(self, char: str) -> CallStatus:
        if char == "{":
            self._step = self._read_key_begin
        return CallStatus.OPEN if char == "{" or char.isspace() else CallStatus.BROKEN

    def _read_key_begin(self, char: str) -> CallStatus:
        if char.isspace():
            return CallStatus.OPEN
        self._step = self._read_key
        self._begin_value()
        return self._read_key(char) if char == '"' else CallStatus.BROKEN

    def _read_key(self, char: str) -> CallStatus:
        self._chars.append(char)
        if self._extent.read(char) is Extent.LAST:
            self._key = str(_decoded(self._chars))
            self._step = self._read_colon
        return CallStatus.OPEN

    def _read_colon(self, char: str) -> CallStatus:
        if char == ":":
            self._step = self._read_value_begin
        return CallStatus.OPEN if char == ":" or char.isspace() else CallStatus.BROKEN

    def _read_value_begin(self, char: str) -> CallStatus:
        if char.isspace():
            return CallStatus.OPEN
        self._begin_value()
        is_arguments = self._key in ARGUMENTS_KEYS and not self._has_arguments
        self._step = self._read_arguments if is_arguments else self._read_value
        return self._step(char)

    def _read_arguments(self, char: str) -> CallStatus:
        extent = self._extent.read(char)
        if extent in (Extent.INSIDE, Extent.LAST):
            self._has_arguments = True
            self._arguments.append(char)
        return self._after(extent, char)

    def _read_value(self, char: str) -> CallStatus:
        extent = self._extent.read(char)
        if extent in (Extent.INSIDE, Extent.LAST):
            self._chars.append(char)
        if extent in (Extent.LAST, Extent.PAST) and self._key == "name" and self.name is None:
            name = _decoded(self._chars)
            if not isinstance(name, str) or not 0 < len(name) <= MAX_CALLED_NAME_CHARS:
                return CallStatus.BROKEN
            self.name = name
        return self._after(extent, char)

    def _read_value_end(self, char: str) -> CallStatus:
        if char == ",":
            self._step = self._read_key_begin
        elif char == "}":
            return CallStatus.DONE if self.name is not None and self._has_arguments else CallStatus.BROKEN
        return CallStatus.OPEN if char == "," or char.isspace() else CallStatus.BROKEN

    def _after(self, extent: Extent, char: str) -> CallStatus:
        if extent is Extent.INSIDE:
            return CallStatus.OPEN
        if extent is Extent.BROKEN:
            return CallStatus.BROKEN
        self._step = self._read_value_end
        return CallStatus.OPEN if extent is Extent.LAST else self._read_value_end(char)

    def _begin_value(self) -> None:
        self._extent = JsonExtent()
        self._chars = []


class MarkedCall:
    """Mistral's `name[ARGS]{…}`, or `name[CALL_ID]…[ARGS]{…}`."""

    _HEAD = re.compile(r"\s*([A-Za-z0-9_.-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?\[ARGS\]")
    _HEAD_CHAR = re.compile(r"[\sA-Za-z0-9_.\[\]-]")

    def __init__(self) -> None:
        self.name: str | None = None
        self._head = ""
        self._extent = JsonExtent()
        self._has_arguments = False
        self._arguments: list[str] = []

    def read(self, char: str) -> CallStatus:
        return self._read_head(char) if self.name is None else self._read_arguments(char)

    def take_arguments(self) -> str:
        taken = "".join(self._arguments)
        self._arguments.clear()
        return taken

    def _read_head(self, char: str) -> CallStatus:
        if len(self._head) >= MAX_CALLED_NAME_CHARS or not self._HEAD_CHAR.fullmatch(char):
            return CallStatus.BROKEN
        self._head += char
        if self._head.endswith("[ARGS]"):
            found = self._HEAD.fullmatch(self._head)
            if found is None:
                return CallStatus.BROKEN
            self.name = found[1]
        return CallStatus.OPEN

    def _read_arguments(self, char: str) -> CallStatus:
        if char.isspace() and not self._has_arguments:
            return CallStatus.OPEN
        if not self._has_arguments and char not in "{[":
            return CallStatus.BROKEN
        extent = self._extent.read(char)
        if extent is Extent.BROKEN:
            return CallStatus.BROKEN
        self._has_arguments = True
        self._arguments.append(char)
        return CallStatus.DONE if extent is Extent.LAST else CallStatus.OPEN


def _decoded(chars: list[str]) -> Any:
    """The JSON value that `chars` spell; None where they do not."""
    try:
        return json.loads("".join(chars), strict=False)
    except (ValueError, RecursionError):
        return None
