"""HTTP as hostile, slow or many clients speak it, on a real socket."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from server.conftest import MODEL, chat_body, serving, soon
from server.fake_engine import FakeEngine

from octavo.server import protocol, unread_body
from octavo.server.listener import LAST_WORDS_S
from octavo.server.phase import Phase, PhaseClock
from octavo.server.protocol import (
    MAX_WAITING_BYTES,
    MIN_MEAN_CHUNK_BYTES,
    NUM_FREE_CHUNKS,
    TURN_BYTES,
    TURN_PIECES,
    BoundedHttpProtocol,
)

CHAT = "/v1/chat/completions"


async def raw(url: str, data: bytes) -> bytes:
    """What the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
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
            counted = (await client.get(url + "/metrics")).text
        assert f'octavo:request_errors_total{{code="invalid_http",engine="0",model_name="{MODEL}"}} 1.0' in counted

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


TWO_REQUESTS = (
    b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    b'content-length: 18\r\n\r\n{"prompt":\r\n\r\n"a"}\r\n'
    b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'transfer-encoding: chunked\r\n\r\nf;a=b\r\n{"prompt":\r\n\r\n"\r\n3\r\na"}\r\n0\r\nx: y\r\n\r\n'
)


async def in_segments(url: str, segments: list[bytes], arrived: asyncio.Queue[int]) -> bytes:
    """What the server sends to these: each is sent when those before have been read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    for segment in segments:
        writer.write(segment)
        num_bytes = len(segment)
        while num_bytes and not reader.at_eof():
            num_bytes -= await arrived.get()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (TWO_REQUESTS, [b"200", b"200"]),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-a:\r\n\tb\r\n\r\n" + TWO_REQUESTS, [b"400"]),
        (TWO_REQUESTS.replace(b'a"}\r\n0', b'a"}\n0') + TWO_REQUESTS, [b"200", b"400"]),
    ],
    ids=["sound", "folded", "bad chunk"],
)
def test_wherever_segments_are_cut_the_answers_are_the_same(
    data: bytes, statuses: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    receive = BoundedHttpProtocol.data_received

    def watched(self: BoundedHttpProtocol, segment: bytes) -> None:
        receive(self, segment)
        arrived.put_nowait(len(segment))

    monkeypatch.setattr(BoundedHttpProtocol, "data_received", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        for cut in range(1, len(TWO_REQUESTS)):
            reply = await in_segments(url, [data[:cut], data[cut:]], arrived)
            assert [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]] == statuses, cut
        reply = await in_segments(url, [data[at : at + 1] for at in range(len(data))], arrived)
        assert [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]] == statuses

    serving(test)


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
            probed = await outside.get(url + "/health")
            assert probed.status_code == 200 and probed.headers["connection"] == "close"
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
    turns: list[list[int]] = []
    take_turn, parse = BoundedHttpProtocol._take_turn, BoundedHttpProtocol._parse

    def watched(self: BoundedHttpProtocol) -> None:
        turns.append([])
        take_turn(self)
        if self._has_work:
            self.flow.resume_reading()  # as who wants to receive does
            assert not self.transport.is_reading()

    def counted(self: BoundedHttpProtocol, piece: bytearray) -> None:
        turns[-1].append(len(piece))
        parse(self, piece)

    monkeypatch.setattr(BoundedHttpProtocol, "_take_turn", watched)
    monkeypatch.setattr(BoundedHttpProtocol, "_parse", counted)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        body = json.dumps({"prompt": "x" * 100}).encode().ljust(NUM_FREE_CHUNKS)
        first = CHUNKED + b"\r\n" + chunks(body, 1) + b"0\r\n\r\n"
        last = first.replace(b"chunked", b"chunked\r\nconnection: close")
        reply = await raw(url, first + last)
        assert reply.count(b"HTTP/1.1 200") == 2
        assert max(map(sum, turns)) < 2 * TURN_BYTES and max(map(len, turns)) == TURN_PIECES
        assert sum(map(sum, turns)) == len(first + last)

    serving(test)


def test_lines_in_a_chunk_cost_what_other_bytes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    num_pieces, num_segments = 0, 0
    parse, receive = BoundedHttpProtocol._parse, BoundedHttpProtocol.data_received

    def counted(self: BoundedHttpProtocol, piece: bytearray) -> None:
        nonlocal num_pieces
        num_pieces += 1
        parse(self, piece)

    def watched(self: BoundedHttpProtocol, segment: bytes) -> None:
        nonlocal num_segments
        num_segments += 1
        receive(self, segment)

    monkeypatch.setattr(BoundedHttpProtocol, "_parse", counted)
    monkeypatch.setattr(BoundedHttpProtocol, "data_received", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        body = b'{"prompt":"a"}' + b"\r\n\r\n" * 1_000_000
        reply = await raw(url, CHUNKED + b"connection: close\r\n\r\n" + chunks(body, len(body)) + b"0\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200")
        assert num_pieces <= num_segments + 4

    serving(test)


def test_what_is_asked_next_waits_until_what_was_asked_first_is_answered() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        body = json.dumps(chat_body("Hi")).encode()
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        request = head % (CHAT.encode(), len(body)) + body
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(request * 50)
        await soon(lambda: bool(engine.open_ids))
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/health")).status_code == 200
        assert len(engine.open_ids) == 1 and context.gate.num_inside == 1
        writer.close()
        await soon(lambda: not engine.open_ids)  # the client has gone, and nobody asks in its name

    serving(test)


@pytest.mark.parametrize("next_bytes", [b"", b"G", b"\r\n" * 1000])
@pytest.mark.parametrize("is_half_closed", [False, True])
def test_who_leaves_is_noticed_whatever_was_sent_behind_the_request(next_bytes: bytes, is_half_closed: bool) -> None:
    """To end one's side of a connection is to leave it, too."""

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        body = json.dumps(chat_body("Hi")).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(HEAD.replace(b"/tokenize", CHAT.encode()) + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await soon(lambda: bool(engine.open_ids))
        writer.write(next_bytes)
        if is_half_closed:
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await soon(lambda: not engine.open_ids and not context.gate.num_inside)

    serving(test)


def test_what_waits_behind_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    receive = BoundedHttpProtocol.data_received

    def watched(self: BoundedHttpProtocol, segment: bytes) -> None:
        receive(self, segment)
        waiting.append(len(self._received))

    monkeypatch.setattr(BoundedHttpProtocol, "data_received", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        body = json.dumps(chat_body("Hi")).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(HEAD.replace(b"/tokenize", CHAT.encode()) + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await soon(lambda: bool(engine.open_ids))
        begin = len(waiting)
        writer.write(b"\r\n" * 4_000_000)
        await soon(lambda: len(waiting) > begin and waiting[-1] > MAX_WAITING_BYTES)
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/health")).status_code == 200
        assert max(waiting) <= MAX_WAITING_BYTES + (1 << 18)  # as much as is read at once
        writer.close()
        engine.is_held = False
        await soon(lambda: not engine.open_ids and not context.gate.num_inside)

    serving(test)


def test_what_is_behind_a_chunked_body_is_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[bytes] = set()
    complete = BoundedHttpProtocol.on_message_complete

    def watched(self: BoundedHttpProtocol) -> None:
        names.update(name for name, _ in self.headers)
        complete(self)

    monkeypatch.setattr(BoundedHttpProtocol, "on_message_complete", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        data = CHUNKED + b'connection: close\r\n\r\ne\r\n{"prompt":"a"}\r\n0\r\nx-request-id: a\r\n\r\n'
        assert (await raw(url, data)).startswith(b"HTTP/1.1 200")
        assert b"connection" in names and b"x-request-id" not in names

    serving(test)


def test_a_fault_of_the_servers_own_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> int:
        raise ZeroDivisionError

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(protocol, "checked_length", fail)
            assert await raw(url, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n") == b""
        async with httpx.AsyncClient() as client:
            assert (await client.get(url + "/health")).status_code == 200

    serving(test)
    assert "ZeroDivisionError" in caplog.text


def test_a_slow_body_that_nobody_waits_for_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.server.listener.LAST_WORDS_S", 0.0)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
        assert reply.startswith(b"HTTP/1.1 200")

    serving(test, body_timeout_s=0.1, keep_alive_s=60)


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


EXPECTING = b"expect: 100-continue\r\ncontent-length: 14\r\n\r\n"


def test_a_body_is_asked_for_that_waits_to_be() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(2):  # the connection is kept
            writer.write(HEAD + EXPECTING)
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b'{"prompt":"a"}')
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200") and b"connection: close" not in head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()

    serving(test)


@pytest.mark.parametrize("behind", [b'{"prompt":"a"}', b""], ids=["sent anyway", "not sent"])
def test_what_follows_a_body_that_was_not_asked_for_is_not_taken_for_it(
    behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for a request: nobody can tell which it is."""
    monkeypatch.setattr(unread_body, "LINGER_S", 0.05)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        refused = HEAD.replace(b"application/json", b"text/plain") + EXPECTING
        reply = await raw(url, refused + behind + b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 415") and reply.count(b"HTTP/1.1") == 1
        assert b"\r\nconnection: close\r\n" in reply.lower()

    serving(test)


def test_a_body_that_is_not_http_is_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reply = await raw(url, HEAD + b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\nz\r\n")
        assert reply.startswith(b"HTTP/1.1 400") and reply.count(b"HTTP/1.1") == 1

    serving(test)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_each_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes with the last bytes of a body that nobody waited for; and behind it the connection is idle."""
    entered: asyncio.Queue[tuple[Phase, float | None]] = asyncio.Queue()
    set_deadline = PhaseClock.set_deadline

    def watched(self: PhaseClock, seconds: float | None) -> None:
        set_deadline(self, seconds)
        entered.put_nowait((self.phase, seconds))

    async def next_phases(count: int) -> list[tuple[Phase, float | None]]:
        return [await asyncio.wait_for(entered.get(), 5) for _ in range(count)]

    idle, head, body = (Phase.IDLE, 7.0), (Phase.HEAD, 8.0), (Phase.BODY, 9.0 + LAST_WORDS_S)
    monkeypatch.setattr(PhaseClock, "set_deadline", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        assert await next_phases(1) == [idle]
        health = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"
        writer.write(health + b"content-length: 2\r\n\r\n{")
        assert await next_phases(2) == [head, body]
        await asyncio.wait_for(reader.readuntil(b"}"), 5)
        writer.write(b"}" + health + b"content-length: 2\r\n\r\n{")
        assert await next_phases(3) == [idle, head, body]
        await asyncio.wait_for(reader.readuntil(b"}"), 5)
        writer.write(b"}")
        assert await next_phases(1) == [idle]
        writer.write(health + b"\r\n")
        assert await next_phases(4) == [head, body, (Phase.ANSWER, None), idle]
        writer.close()

    serving(test, keep_alive_s=7, header_timeout_s=8, body_timeout_s=9)
