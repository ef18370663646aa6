"""The bad-input matrix: each way in × each field × values that it must not have, and bodies that are no request at all."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from server.bad_values.completions import CHAT_VALUES, COMPLETION_VALUES
from server.bad_values.fields import NOT_BOOLEANS, NOT_IDS, NOT_LISTS_OF_IDS, NOT_UNICODE, Places, Written, bad_values
from server.bad_values.messages import COUNT_VALUES, MESSAGE_VALUES
from server.bad_values.responses import RESPONSE_VALUES
from server.paths import CHAT, COMPLETIONS, COUNT, DETOKENIZE, MESSAGES, RESPONSES, TOKENIZE

from octavo.core.json_limits import MAX_JSON_DEPTH

VALUES: dict[str, Places] = {
    COMPLETIONS: COMPLETION_VALUES,
    CHAT: CHAT_VALUES,
    RESPONSES: RESPONSE_VALUES,
    MESSAGES: MESSAGE_VALUES,
    COUNT: COUNT_VALUES,
    TOKENIZE: {
        "prompt": [None, 1, [], {}, True, ["a"], NOT_UNICODE],
        "add_special_tokens": NOT_BOOLEANS,
        "return_token_strs": NOT_BOOLEANS,
        "messages": [1, {}, "x", Written("[]", "prompt")],
        "colour": [1],
    },
    DETOKENIZE: {"tokens": [None, *NOT_LISTS_OF_IDS], "tokens[0]": NOT_IDS, "colour": [1]},
}
STREAMED = (COMPLETIONS, CHAT, RESPONSES, MESSAGES)
_MESSAGE = [{"role": "user", "content": "Hi"}]
SOUND = {
    COMPLETIONS: {"prompt": "Hi"},
    CHAT: {"messages": _MESSAGE},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"messages": _MESSAGE, "max_tokens": 4},
    COUNT: {"messages": _MESSAGE},
    TOKENIZE: {"prompt": "Hi"},
    DETOKENIZE: {"tokens": [1]},
}
"""What a request has at least, beside its model."""
_DEEP = b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1)
BODIES = [
    b"", b" ", b"{", b"}", b"[]", b"1", b'"x"', b"null", b"true", b"not json", b"\xff\xfe", b'{"a":}', b"{}{}", b"{'a': 1}",
    b'{"model": "\xff"}', b"\xef\xbb\xbf{}", b"NaN", b'{"a": NaN}', b'{"a": 1e400}', b'{"n": ' + b"9" * 5000 + b"}",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + _DEEP + b"}", b'{"metadata": ' + _DEEP + b"}", b'{"a": "\x00"}',
    b'{"metadata": [' + b"[]," * 70_000 + b"1]}", b"a=1&b=2", b"--x\r\n", b"\x1f\x8b\x08\x00", b'{"model": 1',
    b'{"model": "\\ud800"}', b'{"temperature": NaN}', b'{"temperature": Infinity}', b'{"temperature": -Infinity}',
    b'{"temperature": 1e400}', b'{"temperature": 1e999999999}', b'{"temperature": ' + b"9" * 5000 + b"}",
]  # fmt: skip
MEDIA_TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]


class BadInput(NamedTuple):
    path: str
    content: bytes
    media_type: str = "application/json"
    place: str | None = None
    """What the refusal names, where it is known."""
    status: int | None = None
    """Likewise."""


def of_places(path: str, model: str, places: Places, **others: object) -> Iterator[BadInput]:
    """Requests that are sound but for one value each."""
    body = {name: json.dumps(value) for name, value in {"model": model, **SOUND[path], **others}.items()}
    for bad in bad_values(places):
        yield BadInput(path, _written({**body, bad.field: bad.text}), place=bad.place, status=bad.status)


def bad_inputs(model: str) -> Iterator[BadInput]:
    """All of them; each is wrong in one place, and fitted out for a server of that model."""
    for path, places in VALUES.items():
        yield from of_places(path, model, places)
        if path in STREAMED:
            yield from of_places(path, model, places, stream=True)
        for content in BODIES:
            yield BadInput(path, content)
        for media_type in MEDIA_TYPES:
            yield BadInput(path, json.dumps({"model": model, **SOUND[path]}).encode(), media_type)


def _written(fields: dict[str, str]) -> bytes:
    """A JSON object of values that are written already, of which some are no JSON."""
    return ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}").encode()
