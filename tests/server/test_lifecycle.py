"""A real server on a socket: clients that go away, slow ones, signals, ports."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from server.conftest import chat_body, listening, make_server_context, sse_events
from server.fake_engine import REPLY, FakeEngine

from octavo.core.errors import ConfigError
from octavo.server.run import PhasePrinter, StopSignals, bound_socket, serve_until_stopped

CHAT = "/v1/chat/completions"


async def soon(condition: Callable[[], bool]) -> None:
    """Wait for a condition that events in this loop bring about."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.002)


def serving(test: Callable[..., Awaitable[None]], **options: Any) -> None:
    """Run `test(url, engine, stop, task, context)` beside a server."""

    async def main() -> None:
        engine = FakeEngine()
        context = make_server_context(engine, **options)
        async with listening(context) as (url, stop, task):
            await test(url, engine, stop, task, context)

    asyncio.run(main())


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("hold_after", [0, 3])
def test_a_client_that_goes_away_is_aborted_at_once(is_streamed: bool, hold_after: int) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, hold_after
        async with httpx.AsyncClient() as client:
            body = chat_body("Hi", stream=is_streamed, n=2)
            request = asyncio.create_task(client.post(url + CHAT, json=body))
            await soon(lambda: bool(engine.open_ids))
            if hold_after:
                await soon(lambda: engine.stats is not None and engine.stats.step >= hold_after)
            request.cancel()
        await soon(lambda: bool(engine.aborted))
        assert not engine.open_ids
        await soon(lambda: context.gate.num_inside == 0)
        assert not context.metrics._open

    serving(test)


def test_every_prompt_of_a_request_is_aborted() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        async with httpx.AsyncClient() as client:
            body = {"model": "fake-model", "prompt": ["a", "b", "c"], "stream": True}
            request = asyncio.create_task(client.post(url + "/v1/completions", json=body))
            await soon(lambda: len(engine.open_ids) == 3)
            request.cancel()
        await soon(lambda: len(engine.aborted) == 3)

    serving(test)


def test_others_go_on_when_one_goes_away() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 2
        async with httpx.AsyncClient() as stays, httpx.AsyncClient() as leaves:
            staying = asyncio.create_task(stays.post(url + CHAT, json=chat_body("Hi", stream=True)))
            leaving = asyncio.create_task(leaves.post(url + CHAT, json=chat_body("Hi", stream=True)))
            await soon(lambda: len(engine.open_ids) == 2)
            leaving.cancel()
            await soon(lambda: len(engine.aborted) == 1)
            engine.is_held = False
            events = sse_events((await staying).content)
        assert events[-1] == "[DONE]"
        text = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1])
        assert text == REPLY

    serving(test)


def test_health_is_503_and_open_requests_end_when_the_engine_dies() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 2
        async with httpx.AsyncClient() as client:
            streamed = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi", stream=True)))
            whole = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi")))
            await soon(lambda: len(engine.open_ids) == 2)
            await soon(lambda: engine.stats is not None and engine.stats.step >= 4)
            engine.die()
            last = json.loads(sse_events((await streamed).content)[-1])
            assert last["error"]["code"] == "engine_dead"
            assert (await whole).status_code == 503
            assert (await client.get(url + "/health")).status_code == 503

    serving(test)


def test_the_first_signal_lets_accepted_requests_finish() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 1
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi", stream=True)))
            await soon(lambda: bool(engine.open_ids))
            stop.ask()
            await soon(lambda: context.gate.is_closed)
            assert engine.is_healthy and not task.done()
            with pytest.raises(httpx.TransportError):
                for _ in range(200):  # the listener closes at the server's next tick; until then it is 503
                    refused = await client.get(url + "/v1/models", headers={"connection": "close"})
                    assert refused.status_code == 503
                    await asyncio.sleep(0.01)
            engine.is_held = False
            assert sse_events((await request).content)[-1] == "[DONE]"
        await asyncio.wait_for(task, 5)
        assert not engine.is_healthy

    serving(test)


@pytest.mark.parametrize("is_urgent", [True, False])
def test_the_second_signal_or_the_bound_ends_requests_with_an_error(is_urgent: bool) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 2
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi", stream=True)))
            await soon(lambda: engine.stats is not None and engine.stats.step >= 2)
            stop.ask()
            if is_urgent:
                stop.ask()
            events = sse_events((await request).content)
        assert json.loads(events[-1])["error"]["code"] == "engine_dead"
        await asyncio.wait_for(task, 5)

    serving(test, drain_timeout_s=60.0 if is_urgent else 0.05)


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


@pytest.mark.parametrize("data", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
def test_slow_headers_are_cut(data: bytes) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        assert await raw(url, data) == b""

    serving(test, header_timeout_s=0.1)


def test_slow_bodies_are_cut() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        head = b"POST /tokenize HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        reply = await raw(url, head + b"content-length: 100\r\n\r\n{")
        assert reply.startswith(b"HTTP/1.1 408")
        assert b'"code":"request_timeout"' in reply
        assert not context.gate.num_inside

    serving(test, body_timeout_s=0.1)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nhost : y\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx: " + b"x" * 100_000,
        b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
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


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="in use") as raised, bound_socket("127.0.0.1", port):
            pass
    assert raised.value.param == "port"


def test_a_port_taken_while_the_model_was_loaded_is_named() -> None:
    async def main() -> None:
        context = make_server_context(FakeEngine())
        with bound_socket("127.0.0.1", 0) as listener, bound_socket("127.0.0.1", listener.getsockname()[1]) as other:
            other.listen()
            with pytest.raises(ConfigError, match="in use"):
                await serve_until_stopped(context, listener, StopSignals(), 0.0)

    asyncio.run(main())


def test_an_address_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError) as raised, bound_socket("192.0.2.1", 0):
        pass
    assert raised.value.param == "host"


def test_a_free_port_is_taken_but_not_yet_listened_on() -> None:
    with bound_socket("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=1)


def test_phases_are_printed_once_with_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    printer = PhasePrinter()
    for share in (0.0, 1.0):
        printer.report("open model", share)
    for share in (0.5, 1.0, 1.0):
        printer.report("load weights", share)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["open", "model"], ["load", "weights"]]
    assert all(line.endswith(" s") for line in lines)


def test_the_ready_line_has_the_url_and_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient() as client:
            await client.get(url + "/health")

    serving(test, api_key=("secret-key",))
    printed = capsys.readouterr().err
    assert "serves fake-model at http://127.0.0.1:" in printed
    assert "curl http://127.0.0.1:" in printed
    assert "secret-key" not in printed
