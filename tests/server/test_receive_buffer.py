"""Pieces of what arrives: nothing is lost, and a request's end is the end of a piece, however segments are cut."""

import random

import pytest

from octavo.server.receive_buffer import PIECE_BYTES, ReceiveBuffer

END = b"\r\n\r\n"


def taken(segments: list[bytes]) -> list[bytes]:
    buffer, taken = ReceiveBuffer(), []
    for segment in segments:
        buffer.add(segment)
        while buffer:
            taken.append(bytes(buffer.take()))
    return taken


@pytest.mark.parametrize("seed", range(200))
def test_an_empty_line_is_the_end_of_a_piece(seed: int) -> None:
    draw = random.Random(seed)
    lines = [draw.choice([b"", b"a", b"bc\n", b"\rd", b"e" * 3000]) for _ in range(40)]
    data = b"\r\n".join(lines)
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.randrange(20)))
    pieces = taken([data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)])
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE_BYTES
    ends = {sum(map(len, pieces[: count + 1])) for count in range(len(pieces))}
    at = data.find(END)
    while at >= 0:
        assert at + len(END) in ends
        at = data.find(END, at + len(END))


def test_a_body_of_a_known_length_is_taken_whole_and_no_further() -> None:
    buffer = ReceiveBuffer()
    body = END * PIECE_BYTES
    buffer.expect_body(len(body))
    buffer.add(body[:5])
    assert buffer.take() == body[:5] and not buffer
    buffer.add(body[5:] + b"GET / HTTP/1.1" + END + b"GET")
    assert buffer.take() == body[5:]
    assert buffer.take() == b"GET / HTTP/1.1" + END
    assert buffer.take() == b"GET" and not buffer
