"""Pieces of what arrives: nothing is lost, and a request's end is the end of a piece, however segments are cut."""

import random

import httptools
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


class Reading:
    """A buffer, and a parser that tells it what comes next."""

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer()
        self.parser = httptools.HttpRequestParser(self)
        self.pieces: list[bytes] = []
        self.num_complete: list[int] = []
        """Requests that each piece completed."""

    def on_headers_complete(self) -> None:
        self.buffer.expect_chunks()

    def on_chunk_header(self) -> None:
        self.buffer.expect_chunk()

    def on_message_complete(self) -> None:
        self.num_complete[-1] += 1

    def read(self, segment: bytes) -> None:
        self.buffer.add(segment)
        while self.buffer:
            piece = self.buffer.take()
            self.pieces.append(bytes(piece))
            self.num_complete.append(0)
            self.parser.feed_data(piece)


def chunk(draw: random.Random) -> bytes:
    data = b"".join(
        draw.choices([b"\r\n", END, b"0\r\n\r\n", b"\n", b"a" * 3000], [9, 9, 9, 9, 1], k=draw.randrange(1, 300))
    )
    return b"%b%x%b\r\n%b\r\n" % (b"0" * draw.randrange(30), len(data), draw.choice([b"", b";a=b"]), data)


@pytest.mark.parametrize("seed", range(50))
def test_data_is_taken_as_it_comes_and_no_piece_has_two_requests(seed: int) -> None:
    """However much in a chunk looks like an end."""
    draw = random.Random(seed)
    requests, num_chunks = [], 0
    for _ in range(5):
        chunks = [chunk(draw) for _ in range(draw.randrange(5))]
        num_chunks += len(chunks) + 1
        last = b"0\r\n" + b"x: y\r\n" * draw.randrange(3) + b"\r\n"
        requests.append(b"".join([b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", *chunks, last]))
    data = b"".join(requests)
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice([0, 20, 5000])))
    reading = Reading()
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        reading.read(data[begin:end])
    assert b"".join(reading.pieces) == data
    ends, num_bytes = [], 0
    for piece, count in zip(reading.pieces, reading.num_complete, strict=True):
        num_bytes += len(piece)
        ends += [num_bytes] * count
    assert ends == [sum(map(len, requests[: count + 1])) for count in range(len(requests))]
    lines = 2 * num_chunks + 2 * len(requests)  # a chunk has a line and data, a request headers and trailers
    assert len(reading.pieces) <= lines + len(cuts) + len(data) // PIECE_BYTES
