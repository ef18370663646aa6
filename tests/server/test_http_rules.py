"""Attempts at smuggling a request, byte by byte as they are known: each has one clean refusal or correct answers, and
what is behind the attempt is never answered as a request.
"""

import asyncio
import json
from typing import Any

import pytest
from server.conftest import serving
from server.fake_engine import FakeEngine

JSON = b'{"prompt":"a"}'
HEAD = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CODED = b"e\r\n" + JSON + b"\r\n0\r\n\r\n"
NEXT = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


def sized(length: bytes) -> bytes:
    return HEAD + b"content-length:" + length + b"\r\n\r\n" + JSON


def coded(coding: bytes, *, head: bytes = HEAD) -> bytes:
    return head + b"transfer-encoding" + coding + b"\r\n\r\n" + CODED


def chunked(body: bytes) -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + body


def lines(*headers: bytes, first: bytes = b"GET /health HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"host: localhost", *headers, b"", b""])


def first(line: bytes) -> bytes:
    return lines(first=line)


REFUSED = {
    # Which length it has
    "length and coding": (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "send one"),
    "coding and length": (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", "send one"),
    "upgrade, both": (coded(b": chunked\r\ncontent-length: 5\r\nconnection: upgrade\r\nupgrade: h2c"), "send one"),
    "two lengths": (sized(b"14\r\ncontent-length: 15"), "twice"),
    "two equal lengths": (sized(b"14\r\ncontent-length: 14"), "twice"),
    "length list": (sized(b"14, 14"), "decimal digits"),
    "length plus": (sized(b"+14"), "decimal digits"),
    "length minus": (sized(b"-14"), "decimal digits"),
    "length hex": (sized(b"0xe"), "decimal digits"),
    "length split": (sized(b"1 4"), "decimal digits"),
    "length empty": (sized(b""), "decimal digits"),
    "length too large": (sized(b"99999999999999999999"), "decimal digits"),
    "length that wraps": (sized(b"18446744073709551630"), "decimal digits"),
    "coding xchunked": (coded(b": xchunked"), "is not chunked"),
    "coding identity": (coded(b": identity"), "is not chunked"),
    "coding empty": (coded(b":"), "is not chunked"),
    "coding list": (coded(b": gzip, chunked"), "is not chunked"),
    "coding not last": (coded(b": chunked, identity"), "is not chunked"),
    "coding twice": (coded(b": chunked\r\ntransfer-encoding: chunked"), "is not chunked"),
    "two codings": (coded(b": gzip\r\ntransfer-encoding: chunked"), "is not chunked"),
    "coding in HTTP/1.0": (coded(b": chunked", head=HEAD.replace(b"1.1", b"1.0")), "is not chunked"),
    "coding, vertical tab": (coded(b": \x0bchunked"), "not visible"),
    "coding, space before the colon": (coded(b" : chunked"), "a name, a colon"),
    "coding folded": (coded(b":\r\n chunked"), "in one"),
    # Where a chunk ends
    "chunk that wraps": (chunked(b"1000000000000000e\r\n" + JSON + b"\r\n0\r\n\r\n"), "hexadecimal"),
    "chunk too large": (chunked(b"f" * 17 + b"\r\n"), "hexadecimal"),
    "chunk 0x": (chunked(b"0x" + CODED), "hexadecimal"),
    "chunk plus": (chunked(b"+" + CODED), "hexadecimal"),
    "chunk minus": (chunked(b"-" + CODED), "hexadecimal"),
    "chunk, space before": (chunked(b" " + CODED), "hexadecimal"),
    "chunk, space behind": (chunked(CODED.replace(b"e\r\n", b"e \r\n", 1)), "hexadecimal"),
    "chunk of no size": (chunked(CODED[1:]), "hexadecimal"),
    "chunk, bare LF": (chunked(CODED.replace(b"e\r\n", b"e\n", 1)), "hexadecimal"),
    "chunk ends with bare LF": (chunked(CODED.replace(b"}\r\n", b"}\n")), "hexadecimal"),
    "chunk without an end": (chunked(CODED.replace(b"}\r\n", b"}")), "hexadecimal"),
    "chunk too short": (chunked(CODED.replace(b"e\r\n", b"d\r\n", 1)), "hexadecimal"),
    "extension, bare LF": (chunked(CODED.replace(b"e\r\n", b"e;a\n", 1)), "hexadecimal"),
    "extension, bare CR": (chunked(CODED.replace(b"e\r\n", b"e;a\rb\r\n", 1)), "hexadecimal"),
    "extension, NUL": (chunked(CODED.replace(b"e\r\n", b"e;\0\r\n", 1)), "hexadecimal"),
    "extension, long": (chunked(CODED.replace(b"e\r\n", b"e;" + b"x" * 100_000 + b"\r\n", 1)), "65536 bytes"),
    "last chunk, bare LFs": (chunked(CODED.replace(b"0\r\n\r\n", b"0\n\n")), "hexadecimal"),
    "last chunk, bare LF behind": (chunked(CODED.replace(b"0\r\n\r\n", b"0\r\n\n")), "a name, a colon"),
    "trailer with a length": (chunked(CODED[:-2] + b"content-length: 43\r\n\r\n"), "send one"),
    "trailer with a coding": (chunked(CODED[:-2] + b"transfer-encoding: chunked\r\n\r\n"), "is not chunked"),
    "trailer folded": (chunked(CODED[:-2] + b"x: a\r\n b\r\n\r\n"), "in one"),
    "trailers, many": (chunked(CODED[:-2] + b"x: a\r\n" * 20_000 + b"\r\n"), "65536 bytes"),
    "trailer, long": (chunked(CODED[:-2] + b"x: " + b"a" * 100_000 + b"\r\n\r\n"), "65536 bytes"),
    # Where a header ends
    "bare LFs": (NEXT.replace(b"\r", b""), "CR and LF"),
    "bare CRs": (NEXT.replace(b"\n", b""), "CR and LF"),
    "first line, bare LF": (NEXT.replace(b"\r", b"", 1), "CR and LF"),
    "header, bare LF": (lines(b"x: a\ny: b"), "CR and LF"),
    "header, bare CR": (lines(b"x: a\rb"), "CR and LF"),
    "header, two CRs": (lines(b"x: a\r"), "CR and LF"),
    "head ends LF CR LF": (b"GET /health HTTP/1.1\r\nhost: localhost\n\r\n", "CR and LF"),
    "head ends CR LF LF": (b"GET /health HTTP/1.1\r\nhost: localhost\r\n\n", "a name, a colon"),
    "folded": (lines(b"x: a\r\n b"), "in one"),
    "folded by a tab": (lines(b"x: a\r\n\tb"), "in one"),
    "folded from the begin": (lines(b"x:\r\n b"), "in one"),
    "space before the first header": (b"GET /health HTTP/1.1\r\n host: localhost\r\n\r\n", "a name, a colon"),
    "no colon": (lines(b"nothing"), "a name, a colon"),
    "no name": (lines(b": a"), "a name, a colon"),
    "space before the colon": (lines(b"x : a"), "a name, a colon"),
    "name with NUL": (lines(b"x\0: a"), "a name, a colon"),
    "name with Latin-1": (lines(b"x\xe4: a"), "a name, a colon"),
    "name with brackets": (lines(b"x(y): a"), "a name, a colon"),
    "value with NUL": (lines(b"x: a\0b"), "not visible"),
    "value with DEL": (lines(b"x: a\x7fb"), "not visible"),
    "value with a vertical tab": (lines(b"x: a\x0bb"), "not visible"),
    # Whom it asks for what
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", "Host is there 0 times"),
    "two hosts": (lines(b"host: other"), "Host is there 2 times"),
    "two hosts in HTTP/1.0": (lines(b"host: other", first=b"GET /health HTTP/1.0"), "Host is there 2 times"),
    "HTTP/2.0": (first(b"GET /health HTTP/2.0"), "HTTP/1.1"),
    "HTTP/1.2": (first(b"GET /health HTTP/1.2"), "HTTP/1.1"),
    "HTTP/0.9": (first(b"GET /health HTTP/0.9"), "HTTP/1.1"),
    "no version": (b"GET /health\r\n\r\n", "HTTP/1.1"),
    "version of five characters": (first(b"GET /health HTTP/1.10"), "HTTP/1.1"),
    "small letters": (first(b"GET /health http/1.1"), "HTTP/1.1"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1"),
    "space behind the version": (first(b"GET /health HTTP/1.1 "), "HTTP/1.1"),
    "space in the path": (first(b"GET /hea lth HTTP/1.1"), "HTTP/1.1"),
    "path in Latin-1": (first(b"GET /h\xe4 HTTP/1.1"), "percent-encode"),
    "path in UTF-8": (first("GET /hä HTTP/1.1".encode()), "percent-encode"),
    "query in UTF-8": (first("GET /health?ä HTTP/1.1".encode()), "percent-encode"),
    "path with a tab": (first(b"GET /h\tealth HTTP/1.1"), "percent-encode"),
    "path with NUL": (first(b"GET /h\0 HTTP/1.1"), "percent-encode"),
    "path without a slash": (first(b"GET health HTTP/1.1"), "percent-encode"),
    "no method of HTTP's": (first(b"FOO /health HTTP/1.1"), "the method"),
    "method in small letters": (first(b"get /health HTTP/1.1"), "the method"),
    "tunnel": (b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n", "a tunnel"),
    "empty lines without end": (b"\r\n" * 50_000, "65536 bytes"),
}
UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"
ANSWERED = {
    "length": (sized(b" 14"), b"200 200"),
    "length with a nought": (sized(b"014"), b"200 200"),
    "length between spaces": (sized(b"   14  "), b"200 200"),
    "coding": (coded(b": chunked"), b"200 200"),
    "coding in capitals": (coded(b": Chunked"), b"200 200"),
    "coding behind a tab": (coded(b":\tchunked "), b"200 200"),
    "chunk with noughts": (chunked(b"00" + CODED), b"200 200"),
    "chunk with an extension": (chunked(CODED.replace(b"e\r\n", b'e;a=b;c="d"\r\n', 1)), b"200 200"),
    "trailers": (chunked(CODED[:-2] + b"x: a\r\n\r\n"), b"200 200"),
    "trailer that asks for an upgrade": (chunked(CODED[:-2] + UPGRADE + b"\r\n"), b"200 200"),
    "trailer that closes": (chunked(CODED[:-2] + b"connection: close\r\n\r\n"), b"200 400"),
    "request as a body": (lines(b"content-length: %d" % len(NEXT)) + NEXT, b"200 200"),
    "request as a chunk": (chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEXT), NEXT)), b"400 200"),
    "upgrade": (lines(UPGRADE[:-2]), b"200 200"),
    "upgrade to a web socket": (lines(b"connection: upgrade", b"upgrade: websocket"), b"200 200"),
    "upgrade with a body": (HEAD + UPGRADE + b"content-length: 14\r\n\r\n" + JSON, b"200 200"),
    "upgrade with chunks": (coded(b": chunked", head=HEAD + UPGRADE), b"200 200"),
    "upgrade with a request as its body": (
        HEAD + UPGRADE + b"content-length: %d\r\n\r\n%b" % (len(NEXT), NEXT),
        b"400 200",
    ),
    "last request": (lines(b"connection: close"), b"200"),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", b"200"),
    "HTTP/1.0 that stays": (lines(b"connection: keep-alive", first=b"GET /health HTTP/1.0"), b"200"),
    "empty lines before it": (b"\r\n\r\n" + NEXT, b"200 200"),
    "value in Latin-1": (lines(b"x: \xe4"), b"200 200"),
    "absolute path": (first(b"GET http://localhost/health HTTP/1.1"), b"404 200"),
    "absolute path of another": (first(b"GET http://other/health HTTP/1.1"), b"404 200"),
    "path *": (first(b"OPTIONS * HTTP/1.1"), b"404 200"),
    "path with a fragment": (first(b"GET /health#a HTTP/1.1"), b"404 200"),
    "path that is quoted": (first(b"GET /v1/models/%C3%A4%FF%00 HTTP/1.1"), b"404 200"),
    "empty host": (b"GET /health HTTP/1.1\r\nhost:\r\n\r\n", b"421 200"),
    "HEAD": (first(b"HEAD /health HTTP/1.1"), b"200 200"),
}


async def replies(url: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def statuses(reply: bytes) -> bytes:
    return b" ".join(part[:3] for part in reply.split(b"HTTP/1.1 ")[1:])


def test_what_is_refused_is_answered_once_and_says_what() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        for name, (data, fault) in REFUSED.items():
            reply = await replies(url, data + NEXT)
            assert statuses(reply) == b"400", (name, reply)
            head, _, body = reply.partition(b"\r\n\r\n")
            error = json.loads(body)["error"]
            assert error["code"] == "invalid_http" and fault in error["message"], (name, error)
            assert b"\r\nconnection: close" in head and b"\r\ncontent-length: %d" % len(body) in head, name

    serving(test)


@pytest.mark.parametrize(("data", "expected"), ANSWERED.values(), ids=ANSWERED.keys())
def test_what_is_answered_ends_where_it_says(data: bytes, expected: bytes) -> None:
    """What follows is a request of its own; that one is the connection's last."""

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        assert statuses(await replies(url, data + lines(b"connection: close"))) == expected

    serving(test)
