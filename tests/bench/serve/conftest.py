"""A server over a socket that answers as a test says, byte for byte."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from octavo.bench.serve.client import BenchClient, RequestOptions, prepare
from octavo.bench.serve.datasets import Prompt
from octavo.bench.serve.http import Address
from octavo.bench.serve.load import RunClock
from octavo.bench.serve.record import RequestRecord
from octavo.bench.serve.request_form import Endpoint

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Asked:
    """What came: the request line, the headers and the body; `until_gone` returns when the client has closed."""

    def __init__(self, head: bytes, body: bytes, until_gone: Callable[[], Awaitable[bytes]]) -> None:
        self.until_gone = until_gone
        self.line, *headers = head.decode().split("\r\n")
        self.headers = dict(header.lower().split(": ", 1) for header in headers if header)
        self.body: Any = json.loads(body) if body else None


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Address]:
    """Each connection has one request, which `answer` is given; the connection is closed after it."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            body = await reader.readexactly(int(length[1]) if length else 0)
            await answer(Asked(head, body, reader.read), writer)
            await writer.drain()
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Address(host="127.0.0.1", port=port, path="", is_secure=False)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def part(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text(text: str, finish_reason: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": finish_reason}])


def usage(num_prompt: int, num_output: int, num_cached: int | None = None) -> bytes:
    details = {} if num_cached is None else {"prompt_tokens_details": {"cached_tokens": num_cached}}
    counts = {"prompt_tokens": num_prompt, "completion_tokens": num_output, "total_tokens": num_prompt + num_output}
    return event(choices=[], usage={**counts, **details})


def options(**changes: Any) -> RequestOptions:
    fields = {"endpoint": Endpoint.COMPLETIONS, "model": "m", "ignores_eos": False}
    return RequestOptions(**{**fields, **changes})


async def sent(address: Address, *, timeout_s: float = 30.0, prompt: Any = "Hi") -> RequestRecord:
    """One request's record."""
    client = BenchClient(address, api_key=None, timeout_s=timeout_s, clock=RunClock())
    record = RequestRecord(scheduled_s=0.0, released_s=0.0)
    await client.send(prepare(Prompt(content=prompt, max_tokens=4), options()), record)
    return record


def record_of(*parts: bytes, address: Address | None = None) -> RequestRecord:
    """Of a request that is answered with these bytes, headers and all."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for each in parts:
            writer.write(each)
            await writer.drain()

    async def main() -> RequestRecord:
        async with answering(answer) as server:
            return await sent(address or server)

    return asyncio.run(main())
