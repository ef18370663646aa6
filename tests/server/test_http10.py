"""Clients of HTTP/1.0, and proxies that speak it: no chunks, and the connection's end is the answer's."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from server.conftest import MODEL, serving
from server.fake_engine import FakeEngine

BODY = {"model": MODEL, "prompt": "Hi", "max_tokens": 20}


async def ask(url: str, data: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(data)
    try:
        head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        return head.lower(), body
    finally:
        writer.close()


def post(body: dict[str, Any], *headers: bytes) -> bytes:
    data = json.dumps(body).encode()
    lines = [b"POST /v1/completions HTTP/1.0", b"content-type: application/json", b"content-length: %d" % len(data)]
    return b"\r\n".join([*lines, b"host: localhost", *headers, b"", data])


@pytest.mark.parametrize("headers", [(), (b"connection: keep-alive",), (b"expect: 100-continue",)])
def test_streams_are_bare_and_end_with_the_connection(headers: tuple[bytes, ...]) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        head, body = await ask(url, post({**BODY, "stream": True}, *headers))
        assert head.startswith(b"http/1.1 200") and b"\r\nconnection: close" in head
        assert b"transfer-encoding" not in head and b"content-length" not in head
        async with httpx.AsyncClient() as client:
            reply = await client.post(url + "/v1/completions", json={**BODY, "stream": True})
        assert reply.headers["transfer-encoding"] == "chunked"
        assert body.count(b"data: ") == reply.content.count(b"data: ") > 3
        assert body.startswith(b"data: {") and body.endswith(b"data: [DONE]\n\n")

    serving(test)


def test_whole_answers_have_their_length() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        head, body = await ask(url, post(BODY))
        assert b"\r\ncontent-length: %d\r\n" % len(body) in head and json.loads(body)["choices"]
        head, body = await ask(url, b"HEAD /health HTTP/1.0\r\nhost: localhost\r\n\r\n")
        assert head.startswith(b"http/1.1 200") and not body

    serving(test)
