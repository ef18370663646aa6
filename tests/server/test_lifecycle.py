"""A real server on a socket: clients that go away, slow ones, signals, ports."""

import asyncio
import contextlib
import errno
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from server.conftest import chat_body, make_server_context, serving, soon, sse_events
from server.fake_engine import REPLY, FakeEngine

from octavo.core.errors import ConfigError, EngineDeadError
from octavo.engine.liveness import EngineState
from octavo.server import drain
from octavo.server import listener as listener_module
from octavo.server.app import build_app
from octavo.server.listener import HttpServer, bound_sockets, raise_file_limit

CHAT = "/v1/chat/completions"


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
            for path in ("/health", "/health/ready"):
                assert (await client.get(url + path)).json()["error"]["code"] == "engine_dead"
            assert not task.done()

    serving(test)


def test_the_server_ends_with_an_error_when_its_engine_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "DEAD_GRACE_S", 0.0)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.die()
        with pytest.raises(EngineDeadError, match="restart"):
            await asyncio.wait_for(task, 5)

    serving(test)


def test_an_engine_that_dies_while_the_server_ends_is_an_error() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi")))
            await soon(lambda: bool(engine.open_ids))
            stop.ask()
            await soon(lambda: context.gate.is_closed)
            engine.die()
            assert (await request).json()["error"]["code"] == "engine_dead"
        with pytest.raises(EngineDeadError):
            await asyncio.wait_for(task, 5)

    serving(test)


def test_a_stalled_engine_takes_no_requests_until_it_goes_on() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient() as client:
            engine.state = EngineState.STALLED
            for reply in (
                await client.get(url + "/health"),
                await client.get(url + "/health/ready"),
                await client.post(url + CHAT, json=chat_body("Hi")),
            ):
                assert reply.status_code == 503 and reply.headers["retry-after"]
                assert reply.json()["error"]["code"] == "engine_stalled"
            engine.state = EngineState.RUNNING
            assert (await client.get(url + "/health/ready")).json() == {"status": "ok"}
            assert (await client.post(url + CHAT, json=chat_body("Hi"))).status_code == 200

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
            refused = await client.post(url + CHAT, json=chat_body("Hi"))
            assert refused.status_code == 503 and refused.headers["retry-after"]
            assert refused.json()["error"]["code"] == "shutting_down"
            assert (await client.get(url + "/health")).json() == {"status": "draining"}
            assert (await client.get(url + "/health/ready")).status_code == 503
            engine.is_held = False
            assert sse_events((await request).content)[-1] == "[DONE]"
        await asyncio.wait_for(task, 5)
        assert not engine.is_healthy

    serving(test)


@pytest.mark.parametrize("is_urgent", [True, False])
def test_the_second_signal_or_the_bound_ends_requests_with_an_error(
    is_urgent: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 2
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.post(url + CHAT, json=chat_body("Hi", stream=True)))
            await soon(lambda: engine.stats is not None and engine.stats.step >= 2)
            stop.ask()
            if is_urgent:
                stop.ask()
            events = sse_events((await request).content)
        assert json.loads(events[-1])["error"]["code"] == "shutting_down"
        await asyncio.wait_for(task, 5)
        assert "Ending: 1 request may finish" in capsys.readouterr().err

    serving(test, drain_timeout_s=60.0 if is_urgent else 0.05)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="in use") as raised, bound_sockets("127.0.0.1", port):
            pass
    assert raised.value.param == "port"


def port_of(listeners: list[socket.socket]) -> int:
    [port] = {listener.getsockname()[1] for listener in listeners}
    return port


@contextlib.contextmanager
def bound_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Iterator[list[socket.socket]]:
    """What is bound for a name that has these addresses."""

    def getaddrinfo(host: str, port: int, **options: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (it, port)) for it in addresses]

    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", getaddrinfo)
            listeners = stack.enter_context(bound_sockets("name", 0))
        yield listeners


def test_all_addresses_of_a_name_are_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        context = make_server_context(FakeEngine())
        with bound_to(monkeypatch, "127.0.0.2", "127.0.0.1", "127.0.0.2") as listeners:
            http = HttpServer(build_app(context), context.config, listeners)
            await http.start()
            assert http.url == f"http://127.0.0.2:{port_of(listeners)}"
            async with httpx.AsyncClient() as client:
                for listener in listeners:
                    host, port = listener.getsockname()
                    assert (await client.get(f"http://{host}:{port}/health")).status_code == 200
            await http.stop()
        assert len(listeners) == 2

    asyncio.run(main())


def test_an_address_of_a_name_that_this_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound_to(monkeypatch, "192.0.2.1", "127.0.0.1") as [listener]:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("num_taken", [1, 9])
def test_another_free_port_is_drawn_where_a_further_address_has_it_in_use(
    monkeypatch: pytest.MonkeyPatch, num_taken: int
) -> None:
    drawn: list[int] = []
    bind = listener_module._bound_socket

    def bound_socket(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
        if address[1] and len(drawn) < num_taken:
            drawn.append(address[1])
            raise OSError(errno.EADDRINUSE, "in use")
        return bind(family, kind, protocol, address)

    monkeypatch.setattr(listener_module, "_bound_socket", bound_socket)
    with bound_to(monkeypatch, "127.0.0.1", "127.0.0.2") as listeners:
        assert port_of(listeners) and len(listeners) == 2
    assert len(drawn) == num_taken


def test_a_port_taken_between_binding_and_listening_is_named() -> None:
    async def main() -> None:
        context = make_server_context(FakeEngine())
        with bound_sockets("127.0.0.1", 0) as ours, bound_sockets("127.0.0.1", port_of(ours)) as [other]:
            other.listen()
            with pytest.raises(ConfigError, match="in use"):
                await HttpServer(build_app(context), context.config, ours).start()

    asyncio.run(main())


@pytest.mark.parametrize(("hard", "is_warned"), [(1024, True), (4096, True), (1 << 20, False), (-1, False)])
def test_a_file_limit_below_the_connections_is_told(
    hard: int, is_warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (hard, hard))
    raise_file_limit(4096)
    assert ("ulimit -n" in caplog.text) is is_warned


def test_an_address_that_is_not_here_is_named() -> None:
    with pytest.raises(ConfigError) as raised, bound_sockets("192.0.2.1", 0):
        pass
    assert raised.value.param == "host"


def test_a_free_port_is_taken_but_not_yet_listened_on() -> None:
    with bound_sockets("127.0.0.1", 0) as [listener], pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=1)
