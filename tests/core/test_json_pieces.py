"""Large JSON is decoded as it would be in one go."""

import json
from typing import Any

import msgspec
import pytest

from octavo.core import json_pieces
from octavo.core.json_pieces import decode_json

IDS = [number * 7919 % 50_000 for number in range(60_000)]
TEXT = "the old house by the sea " * 8000


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": IDS, "model": "m", "other": [1, 2]},
        {"prompt": [IDS, IDS]},
        {"prompt": [TEXT, "a, b", "[,]"]},
        {"a": [{"b": number} for number in range(30_000)], "c": TEXT},
        {"numbers": [[], *[0.5, -1e9, 12345678901234567890, None, True] * 10_000][1:]},
        IDS,
        TEXT,
    ],
    ids=["ids", "lists", "texts", "objects", "numbers", "list", "text"],
)
def test_the_same_comes_out(value: Any) -> None:
    for separators in ((",", ":"), (" ,\n", " : ")):
        assert decode_json(json.dumps(value, separators=separators).encode()) == value


@pytest.mark.parametrize("wrong", [b",,", b",x,", b",1 2,"], ids=["no value", "no number", "no comma"])
@pytest.mark.parametrize("after", [0, 30_000, 59_999])
def test_what_is_no_json_is_refused_as_in_one_go(wrong: bytes, after: int) -> None:
    numbers = [str(token).encode() for token in IDS]
    data = b'{"tokens": [%b%b%b]}' % (b",".join(numbers[: after + 1]), wrong, b",".join(numbers[after + 1 :]))
    with pytest.raises(msgspec.DecodeError) as whole:
        msgspec.json.decode(data)
    with pytest.raises(msgspec.DecodeError) as in_pieces:
        decode_json(data)
    assert str(in_pieces.value) == str(whole.value)


def test_a_comma_at_a_lists_end_is_seen_wherever_it_is_cut() -> None:
    for length in range(json_pieces._MIN_PIECE_BYTES - 2, json_pieces._MIN_PIECE_BYTES + 3):
        data = b'{"a":[1%b' % (b" " * length) + b",2" * 40_000
        assert decode_json(data + b"]}") == {"a": [1] + [2] * 40_000}
        with pytest.raises(msgspec.DecodeError):
            decode_json(data + b",]}")


def test_a_million_ids_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    decode = msgspec.json.decode
    monkeypatch.setattr(json_pieces.msgspec.json, "decode", lambda data: (read.append(len(data)), decode(data))[1])
    assert decode_json(json.dumps({"tokens": IDS}).encode()) == {"tokens": IDS}
    assert len(read) > 3 and max(read) < json_pieces._MIN_PIECE_BYTES + 10
