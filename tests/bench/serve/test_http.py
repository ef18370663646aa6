"""One HTTP exchange."""

import asyncio
from collections.abc import Sequence

import h11
import pytest

from octavo.bench.serve.http import Address, exchange
from octavo.core.errors import ConfigError

from .conftest import HEAD, LAST, Asked, answering, part


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost", "http://localhost:80"),
        ("https://api.example.org/v1/", "https://api.example.org:443"),
        ("http://host:1/openai/v1", "http://host:1/openai"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert Address.parse(url).url == shown


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://key@host", "http://host?a=1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write http://127\.0\.0\.1:8000"):
        Address.parse(url)


def body_of(parts: Sequence[bytes]) -> tuple[int, list[bytes]]:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for each in parts:
            writer.write(each)
            await writer.drain()

    async def main() -> tuple[int, list[bytes]]:
        async with answering(answer) as address, exchange(address, "GET", "/x", {}) as reply:
            return reply.status, [each async for each in reply.parts()]

    return asyncio.run(main())


def test_the_request_as_it_is_sent() -> None:
    seen: list[Asked] = []

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(asked)
        writer.write(b"HTTP/1.1 201 Created\r\nx-a: b\r\ncontent-length: 0\r\n\r\n")

    async def main() -> None:
        async with answering(answer) as address:
            under = Address(host=address.host, port=address.port, path="/api", is_secure=False)
            async with exchange(under, "POST", "/v1/x", {"authorization": "Bearer k"}, b'{"a": 1}') as reply:
                assert (reply.status, reply.headers["x-a"]) == (201, "b")
                assert await reply.body() == b""

    asyncio.run(main())
    [asked] = seen
    assert asked.line == "POST /api/v1/x HTTP/1.1"
    assert asked.body == {"a": 1}
    assert asked.headers["authorization"] == "bearer k"
    assert asked.headers["connection"] == "close"


def test_a_chunked_body_however_it_is_cut() -> None:
    stream = HEAD + part(b"one") + part(b"two and more") + LAST
    for size in (1, 7, len(stream)):
        status, parts = body_of([stream[at : at + size] for at in range(0, len(stream), size)])
        assert (status, b"".join(parts)) == (200, b"onetwo and more")


def test_a_body_with_a_length_and_one_until_the_end() -> None:
    assert body_of([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"]) == (200, [b"abc"])
    status, parts = body_of([b"HTTP/1.0 200 OK\r\n\r\n", b"abc"])
    assert (status, b"".join(parts)) == (200, b"abc")


def test_an_interim_reply_is_passed_over() -> None:
    assert body_of([b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"]) == (
        200,
        [b"x"],
    )


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200"], [HEAD], [HEAD, part(b"a"), b"5\r\nab"], [b"SSH-2.0\r\n\r\n"]])
def test_a_connection_that_breaks_off(parts: list[bytes]) -> None:
    with pytest.raises((h11.RemoteProtocolError, ConnectionError)):
        body_of(parts)
