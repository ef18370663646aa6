"""One client of a real `octavo serve`, for every figure: requests, streams, what /metrics and /proc say."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from server.served import MODEL, Served

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
_LAST_EVENTS = {"response.completed", "response.incomplete", "message_stop"}
"""Of streams whose chunks are events; the others end with [DONE]."""
TIMEOUT_S = 600.0
"""What takes longer hangs."""
_SERIES = re.compile(r"^(?P<name>[a-z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)


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

    async def metric(self, name: str, label: str = "") -> float:
        """A series' value, that with `label` among its labels where it has several."""
        text = (await self.http.get("/metrics")).text
        [value] = [
            float(found["value"])
            for found in _SERIES.finditer(text)
            if found["name"] == name and label in (found["labels"] or "")
        ]
        return value

    async def blocks(self) -> dict[str, int]:
        """KV blocks by state."""
        return {state: int(await self.metric("octavo:kv_blocks", f'"{state}"')) for state in ("free", "cached", "held")}

    async def num_blocks(self) -> int:
        """All of them. Takes a step: the first one tells."""
        await self.choices({"prompt": "Hi", "max_tokens": 1})
        return sum((await self.blocks()).values())

    async def until(self, name: str, value: float, limit_s: float, label: str = "") -> float:
        """Seconds until a series has the value. Raises `TimeoutError`."""
        start_s = time.monotonic()
        while await self.metric(name, label) != value:
            if time.monotonic() - start_s > limit_s:
                raise TimeoutError(f"{name} is not {value} after {limit_s} s")
            await asyncio.sleep(0.002)
        return time.monotonic() - start_s


async def lean_post(url: str, path: str, body: dict[str, Any]) -> int:
    """The status of a request on a connection of its own, by a client that takes next to none of the machine."""
    content = json.dumps({"model": MODEL, **body}).encode()
    address = url.removeprefix("http://")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return int((await reader.read()).split(b" ", 2)[1])
    finally:
        writer.close()


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
