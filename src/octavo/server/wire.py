"""Objects to the bytes that go out: ASCII-escaped JSON, and server-sent events of it."""

import json
from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"


def to_json(value: Any) -> bytes:
    """JSON in ASCII: no reader cuts a character in two, or a line at U+2028. `value` holds structs or built-ins."""
    return json.dumps(msgspec.to_builtins(value, str_keys=True), separators=(",", ":"), allow_nan=False).encode("ascii")


def to_named_event(value: Any) -> bytes:
    """One server-sent event whose name is the value's `type`."""
    return b"event: %b\ndata: %b\n\n" % (value.type.encode("ascii"), to_json(value))


def to_event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: %b\n\n" % to_json(value)
