"""HTTP as hostile, slow or many clients speak it, on a real socket."""

import asyncio
import json
import logging
from typing import Any

import h11
import httpx
import pytest
from server.conftest import chat_body, serving, soon
from server.fake_engine import FakeEngine

from octavo.server import unread_body
from octavo.server.protocol import (
    MAX_EVENTS_A_TURN,
    MAX_HEADER_BYTES,
    MIN_MEAN_CHUNK_BYTES,
    NUM_FREE_CHUNKS,
    BoundedH11Protocol,
    StrictConnection,
)

CHAT = "/v1/chat/completions"


async def raw(url: str, data: bytes, *, is_ended: bool = False) -> bytes:
    """What the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    if is_ended:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize("data", [b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: localhost\r\n"])
def test_slow_headers_are_cut(data: bytes) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        assert await raw(url, data) == b""

    serving(test, header_timeout_s=0.1)


def test_a_connection_that_begins_nothing_is_idle() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        assert await raw(url, b"") == b""
        assert loop.time() - begin_s >= 0.4

    serving(test, header_timeout_s=0.1, keep_alive_s=0.4)


def test_slow_bodies_are_cut() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        head = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
        reply = await raw(url, head + b"content-length: 100\r\n\r\n{")
        assert reply.startswith(b"HTTP/1.1 408")
        assert b'"code":"request_timeout"' in reply
        assert not context.gate.num_inside

    serving(test, body_timeout_s=0.1)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost : y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx: " + b"x" * 100_000,
        b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
    ],
    ids=["nonsense", "header", "long header", "length"],
)
def test_what_is_not_http_gets_the_envelope(data: bytes) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, data)
        assert reply.startswith(b"HTTP/1.1 400")
        error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "invalid_http"
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/health")).status_code == 200

    serving(test)


def test_connections_are_kept_between_requests_and_headers_are_lean() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
            for _ in range(5):
                reply = await client.post(url + CHAT, json=chat_body("Hi"))
                assert reply.status_code == 200
            assert "server" not in reply.headers

    serving(test, header_timeout_s=0.3)


HEAD = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def test_what_is_not_http_is_a_line_at_debug_that_knows_tls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "octavo.server.protocol")

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        for data in (b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            await raw(url, data)

    serving(test)
    plain, tls = [record.message for record in caplog.records if record.name == "octavo.server.protocol"]
    assert "127.0.0.1" in plain and "TLS" not in plain
    assert "speaks TLS" in tls


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", "send one"),
        (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n", "send one"),
        (HEAD + b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{}", "in one"),
        (HEAD + b"x-a: b\n\tc\r\ncontent-length: 2\r\n\r\n{}", "in one"),
        (HEAD + b"content-length: 2\r\n\r\n{}GET / HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n c\r\n\r\n", "in one"),
    ],
    ids=["length first", "encoding first", "folded", "folded with a bare newline", "folded in the second request"],
)
def test_requests_that_proxies_may_read_differently_are_refused(data: bytes, remedy: str) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, data)
        assert b"HTTP/1.1 400" in reply
        error = json.loads(reply.rpartition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "invalid_http" and remedy in error["message"]

    serving(test)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_wherever_segments_are_cut_folds_are_seen(line_end: bytes) -> None:
    sound = line_end.join([b"GET / HTTP/1.1", b"host: localhost", b"x-a: b", b"", b""])
    folded = sound.replace(b"x-a: b", b"x-a:" + line_end + b"\tb")
    for cut in range(1, len(folded)):
        connection = StrictConnection(h11.SERVER)
        with pytest.raises(h11.RemoteProtocolError):
            for part in (folded[:cut], folded[cut:]):
                connection.receive_data(part)
                connection.next_event()
        assert connection.fault is not None
    for cut in range(1, len(sound)):
        connection = StrictConnection(h11.SERVER)
        connection.receive_data(sound[:cut])
        assert connection.next_event() is h11.NEED_DATA
        connection.receive_data(sound[cut:])
        assert isinstance(connection.next_event(), h11.Request)


def test_a_head_that_arrives_byte_by_byte_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    class Spy:
        def search(self, data: bytes, begin: int, end: int | None = None) -> None:
            searched.append((len(data) if end is None else end) - begin)

    monkeypatch.setattr("octavo.server.protocol._HEAD_END", Spy())
    monkeypatch.setattr("octavo.server.protocol._FOLD", Spy())
    connection = StrictConnection(h11.SERVER, MAX_HEADER_BYTES)
    connection.receive_data(b"GET / HTTP/1.1\r\nx: " + b"x" * 50_000)
    assert connection.next_event() is h11.NEED_DATA
    assert sum(searched) > 100_000
    searched.clear()
    for _ in range(1000):
        connection.receive_data(b"x")
        assert connection.next_event() is h11.NEED_DATA
    assert len(searched) == 2000 and max(searched) <= 4


def test_a_body_that_looks_folded_is_a_body() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        body = b'{"prompt":\r\n "a"}'
        head = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        assert (await raw(url, head + body)).startswith(b"HTTP/1.1 200")

    serving(test)


def test_connections_beyond_the_cap_are_refused_but_probes_answered() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        async with httpx.AsyncClient() as inside, httpx.AsyncClient() as outside:
            request = asyncio.create_task(inside.post(url + CHAT, json=chat_body("Hi")))
            await soon(lambda: bool(engine.open_ids))
            refused = await outside.post(url + CHAT, json=chat_body("Hi"))
            assert refused.status_code == 503 and refused.headers["retry-after"]
            assert refused.headers["connection"] == "close"
            assert refused.json()["error"]["code"] == "too_many_connections"
            assert (await outside.get(url + "/health")).status_code == 200
            engine.is_held = False
            assert (await request).status_code == 200

    serving(test, max_connections=1)


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n"


def chunks(data: bytes, size: int) -> bytes:
    parts = [data[begin : begin + size] for begin in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def test_a_body_of_crumbs_is_refused_and_one_of_a_few_is_not() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        body = json.dumps({"prompt": "x" * 100}).encode().ljust(NUM_FREE_CHUNKS)
        reply = await raw(url, CHUNKED + b"connection: close\r\n\r\n" + chunks(body, 1) + b"0\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200")
        longer = body.ljust(NUM_FREE_CHUNKS * MIN_MEAN_CHUNK_BYTES * 2)
        large = chunks(longer, MIN_MEAN_CHUNK_BYTES)
        reply = await raw(url, CHUNKED + b"connection: close\r\n\r\n" + large + b"0\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200")
        reply = await raw(url, CHUNKED + b"\r\n" + chunks(longer, 1))
        assert reply.startswith(b"HTTP/1.1 400")
        error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "invalid_http" and "larger ones" in error["message"]

    serving(test)


def test_a_body_that_is_not_http_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, CHUNKED + b"\r\nz\r\n" + b" " * 1_000_000)
        assert reply.startswith(b"HTTP/1.1 400") and reply.count(b"HTTP/1.1") == 1

    serving(test)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_what_arrives_at_once_is_handled_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a client sends, others come first after so much of it."""
    turns: list[int] = []
    take_turn = BoundedH11Protocol.handle_events

    def watched(protocol: BoundedH11Protocol) -> None:
        take_turn(protocol)
        turns.append(protocol.conn._num_turn_events)
        if protocol.conn.is_turn_over:
            assert not protocol.transport.is_reading()

    monkeypatch.setattr(BoundedH11Protocol, "handle_events", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        body = json.dumps({"prompt": "x" * 100}).encode().ljust(NUM_FREE_CHUNKS)
        data = CHUNKED + b"\r\n" + chunks(body, 1) + b"0\r\n\r\n"
        reply = await raw(url, data + data.replace(b"chunked", b"chunked\r\nconnection: close"))
        assert reply.count(b"HTTP/1.1 200") == 2
        assert max(turns) == MAX_EVENTS_A_TURN
        assert sum(turns) == 2 * (NUM_FREE_CHUNKS + 2)

    serving(test)


@pytest.mark.parametrize(
    ("request_line", "status"), [(b"POST /health", b"405"), (b"GET /health", b"200"), (b"POST /tokenize", b"401")]
)
def test_an_answer_that_leaves_a_chunked_body_unread_closes(
    request_line: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But lets the client finish first, that it may read why."""
    monkeypatch.setattr(unread_body, "LINGER_S", 0.05)
    head = request_line + b" HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n \r\n"

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, head)
        assert reply.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in reply.lower()
        whole = await raw(url, head + b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert whole.count(b"HTTP/1.1") == 1  # it was told that this is the last

    serving(test, api_key=("a",))
