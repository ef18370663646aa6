"""Large JSON decoded in pieces, so that other threads go on while a million numbers are read."""

from typing import Any

import msgspec

LARGE_BYTES = 1 << 17
"""JSON from this size on is decoded in a thread, so that other requests do not wait for it, and in pieces."""
_MIN_PIECE_BYTES = 1 << 16
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_json(data: bytes) -> Any:
    """As `msgspec.json.decode`, and raises as it does. Of a large object, fields that are lists of numbers are read in pieces."""
    if len(data) >= LARGE_BYTES:
        try:
            return {name: _value(bytes(raw)) for name, raw in _fields.decode(data).items()}
        except (msgspec.MsgspecError, ValueError):
            pass  # no object, or no JSON: why not, and where, is told of the whole
    return msgspec.json.decode(data)


def _value(data: bytes) -> Any:
    if len(data) < LARGE_BYTES or not _is_plain_list(data):
        return msgspec.json.decode(data)
    values: list[Any] = []
    begin, end = 1, -1
    while end != len(data) - 1:
        comma = data.find(b",", begin + _MIN_PIECE_BYTES)
        end = len(data) - 1 if comma < 0 else comma
        piece = msgspec.json.decode(b"[%b]" % data[begin:end])
        if not piece:
            raise msgspec.DecodeError("a comma without a value")
        values += piece
        begin = end + 1
    return values


def _is_plain_list(data: bytes) -> bool:
    """Whether every comma in it separates two of its own values."""
    return data.startswith(b"[") and data.count(b"[") == 1 and b"{" not in data and b'"' not in data
