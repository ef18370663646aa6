"""Objects to the bytes that go out: ASCII-escaped JSON, and server-sent events of it."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from octavo.core.pieces import in_pieces

DONE = b"data: [DONE]\n\n"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]{1,4096}")


def to_json(value: Any) -> bytes:
    """JSON in ASCII: no reader cuts a character in two, or a line at U+2028. `value` holds structs or built-ins."""
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which a model may write in a call's arguments
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=msgspec.json.decode)  # of written parts
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")
    return data if data.isascii() else _NOT_ASCII.sub(_escaped, data.decode()).encode("ascii")


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def written(value: Any) -> msgspec.Raw:
    """A part of a reply that is written before the whole: many small ones keep nobody waiting, and are all there is of it."""
    return msgspec.Raw(to_json(value))


def written_list(values: Iterable[Any]) -> msgspec.Raw:
    """The same of a long list, written in pieces: other threads go on between them."""
    return msgspec.Raw(b"[%b]" % b",".join(to_json(piece)[1:-1] for piece in in_pieces(values)))


async def write_off_loop(make: Callable[[], Any]) -> bytes:
    """What `make` returns, in JSON; made and written in a thread, as it may be large."""
    return await asyncio.to_thread(lambda: to_json(make()))


def to_named_event(value: Any) -> bytes:
    """One server-sent event whose name is the value's `type`."""
    return b"event: %b\ndata: %b\n\n" % (value.type.encode("ascii"), to_json(value))


def to_event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: %b\n\n" % to_json(value)
