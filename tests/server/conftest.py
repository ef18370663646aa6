"""A server around a fake engine: called in process, or over a socket of its own."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from server.fake_engine import FakeEngine

from octavo.config.server_config import ServerConfig
from octavo.core.errors import EngineDeadError
from octavo.server.app import build_app
from octavo.server.context import ServerContext, make_context
from octavo.server.drain import StopSignals, serve_until_stopped
from octavo.server.listener import HttpServer
from octavo.server.request_record import Reporter
from octavo.server.startup import Console

MODEL = "fake-model"


def make_server_context(engine: Any, reporters: Sequence[Reporter] = (), **options: Any) -> ServerContext:
    return make_context(engine, ServerConfig(**options), reporters)


class InProcess:
    """Requests to the app without a socket; each call runs in an event loop of its own."""

    def __init__(self, engine: FakeEngine, **options: Any) -> None:
        self.engine = engine
        self.context = make_server_context(engine, **options)
        self.app = build_app(self.context)

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, **request))

    async def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.request("GET", path, **request)

    def post(self, path: str, body: Any, **request: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **request)

    def complete(self, prompt: Any = "Hi", **fields: Any) -> dict[str, Any]:
        reply = self.post("/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 100, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def chat(self, content: Any = "Hi", **fields: Any) -> dict[str, Any]:
        reply = self.post("/v1/chat/completions", chat_body(content, **fields))
        assert reply.status_code == 200, reply.text
        return reply.json()

    def stream(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks of a stream that ended with [DONE]."""
        reply = self.post(path, {**body, "stream": True})
        assert reply.status_code == 200, reply.text
        events = sse_events(reply.content)
        assert events.pop() == "[DONE]"
        return [json.loads(event) for event in events]


def chat_body(content: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def prompt_text(server: InProcess, call: int = -1) -> str:
    """What a request's prompt was written as."""
    return bytes(server.engine.calls[call][0]).decode()


def sse_events(data: bytes) -> list[str]:
    """The events' data; checks the framing to the byte."""
    assert data.endswith(b"\n\n")
    events = data.decode("ascii").split("\n\n")[:-1]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def server(engine: FakeEngine) -> InProcess:
    return InProcess(engine)


@contextlib.asynccontextmanager
async def listening(context: ServerContext) -> AsyncIterator[tuple[str, StopSignals, "asyncio.Task[None]"]]:
    """A real server on a free port of this machine: its URL, what stops it, and its task."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    stop = StopSignals()
    http = HttpServer(build_app(context), context.config, [listener])
    http.report_refusal = context.count_refusal
    await http.start()
    task = asyncio.create_task(serve_until_stopped(context, http, stop, Console()))
    try:
        yield http.url, stop, task
    finally:
        stop.ask()
        stop.ask()
        with contextlib.suppress(EngineDeadError):
            await task


async def soon(condition: Callable[[], bool]) -> None:
    """Wait for a condition that events in this loop bring about."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.002)


def serving(test: Callable[..., Awaitable[None]], engine: FakeEngine | None = None, **options: Any) -> None:
    """Run `test(url, engine, stop, task, context)` beside a server."""

    async def main() -> None:
        served = engine or FakeEngine()
        context = make_server_context(served, **options)
        async with listening(context) as (url, stop, task):
            await test(url, served, stop, task, context)

    asyncio.run(main())


class SocketServer:
    """A real server in a thread, for clients that block."""

    def __init__(self, make_engine: Any, **options: Any) -> None:
        self._ready = threading.Event()
        self._make_engine = make_engine
        self._options = options
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "SocketServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self.engine = self._make_engine()
        async with listening(make_server_context(self.engine, **self._options)) as (self.url, _, _):
            self._ready.set()
            await self._done.wait()


@pytest.fixture(scope="session")
def socket_server() -> Iterator[SocketServer]:
    with SocketServer(FakeEngine) as running:
        yield running
