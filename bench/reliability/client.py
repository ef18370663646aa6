"""One client of a real `octavo serve`, for every figure: requests, streams, what /metrics and /proc say."""

import asyncio
import json
import operator
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from server.scrape import Scrape
from server.served import MODEL, Served

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
_LAST_EVENTS = {"response.completed", "response.incomplete", "message_stop"}
"""Of streams whose chunks are events; the others end with [DONE]."""
Compare = Callable[[float, float], bool]
TIMEOUT_S = 600.0
"""What takes longer hangs."""


class Client:
    """Requests to one server. Used from one event loop."""

    def __init__(self, served: Served, http: httpx.AsyncClient) -> None:
        self.served = served
        self.http = http

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json={"model": MODEL, **body})

    async def choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """A completion's choices: text, tokens, logprobs and why each ended. Raises `httpx.HTTPStatusError`."""
        reply = await self.post(COMPLETIONS, body)
        return reply.raise_for_status().json()["choices"]

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream; raises where it does not end as it should."""
        is_done = False
        request = {"model": MODEL, **body, "stream": True}
        async with self.http.stream("POST", path, json=request) as reply:
            if reply.is_error:
                await reply.aread()
            reply.raise_for_status()
            async for line in reply.aiter_lines():
                if not line.startswith("data: "):
                    continue
                data = line.removeprefix("data: ")
                is_done = data == "[DONE]"
                if not is_done:
                    chunk = json.loads(data)
                    is_done = chunk.get("type") in _LAST_EVENTS
                    yield chunk
        if not is_done:
            raise RuntimeError("a stream ended before its end")

    async def scrape(self) -> Scrape:
        return Scrape((await self.http.get("/metrics")).raise_for_status().text)

    async def metric(self, name: str) -> float:
        """The value of a series that is the only one of its name."""
        return (await self.scrape()).value(name)

    async def num_blocks(self) -> int:
        """All of them. Takes a step: the first one tells."""
        await self.choices({"prompt": "Hi", "max_tokens": 1})
        return sum((await self.scrape()).blocks().values())

    async def until(self, name: str, value: float, limit_s: float, compare: Compare = operator.eq) -> Scrape:
        """The first scrape in which a series compares so with the value. Raises `TimeoutError`."""
        end_s = time.monotonic() + limit_s
        while not compare((seen := await self.scrape()).value(name), value):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{name} is not {compare.__name__} {value} after {limit_s} s")
            await asyncio.sleep(0.002)
        return seen


_WHOLE_ANSWER_BYTES = 1 << 16
"""More than an answer has: its end is what wakes the reader."""


class LeanRequest:
    """A request that takes next to none of the machine to send."""

    def __init__(self, url: str, path: str, body: dict[str, Any]) -> None:
        address = url.removeprefix("http://")
        host, _, port = address.partition(":")
        self._address = host, int(port)
        content = json.dumps({"model": MODEL, **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self._data = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def begin(self) -> socket.socket:
        """A connection of its own on which it has been sent: readable when its whole answer is there."""
        connection = socket.create_connection(self._address, TIMEOUT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WHOLE_ANSWER_BYTES)
        connection.sendall(self._data)
        return connection


def read_status(connection: socket.socket) -> str:
    """Of the whole answer on a connection that the server closes behind it; what went wrong where there is none."""
    reply = b""
    try:
        with connection:
            while data := connection.recv(1 << 16):
                reply += data
    except OSError as error:
        return type(error).__name__
    head, _, content = reply.partition(b"\r\n\r\n")
    if b"\r\ncontent-length: %d\r\n" % len(content) not in head.lower() + b"\r\n":
        return "cut off"
    return head.split(b" ", 2)[1].decode()


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[Client]:
    """A server with these options, ended with SIGTERM; raises where that is not a clean end."""
    served = await asyncio.to_thread(Served, *options)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    try:
        async with httpx.AsyncClient(base_url=served.url, timeout=TIMEOUT_S, limits=limits) as http:
            yield Client(served, http)
    finally:
        code = await asyncio.to_thread(served.end)
    if code != 0:
        raise RuntimeError(f"the server ended with code {code}: {''.join(served.lines[-20:])}")


def resident_bytes(pid: int) -> int:
    """A process's memory that is in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def num_files(pid: int) -> int:
    """File descriptors that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
