"""/dashboard/snapshot and /dashboard/events, over a socket."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
from server.conftest import InProcess, chat_body, serving, soon
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine

from octavo.server.dashboard.ring import MAX_SNAPSHOTS
from octavo.server.dashboard.viewers import MAX_VIEWERS
from octavo.server.send_timeout import SendTimeoutProtocol
from octavo.server.web.headers import INERT_HEADERS

KEY = "sk-octavo-123"


async def read_events(reply: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Each event's id and snapshot."""
    last_id = ""
    async for line in reply.aiter_lines():
        if line.startswith("id: "):
            last_id = line[4:]
        elif line.startswith("data: "):
            yield last_id, json.loads(line[6:])


def snapshot_schema(document: dict[str, Any]) -> dict[str, Any]:
    return {"$ref": "#/components/schemas/Snapshot", "components": document["components"]}


def test_the_snapshot_is_as_its_schema_says() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            schema = snapshot_schema((await client.get("/openapi.json")).json())
            jsonschema.validate((await client.get("/dashboard/snapshot")).json(), schema)
            await client.post("/v1/chat/completions", json=chat_body(max_tokens=20))
            context.live.advance()
            reply = await client.get("/dashboard/snapshot")
            jsonschema.validate(reply.json(), schema)
            assert reply.headers["cache-control"] == "no-store"
            assert reply.json()["step"] == engine.stats.step > 0
            assert reply.json()["ttft"]["count"] == 1 and reply.json()["itl"]["count"] == 19

    serving(test)


def test_events_bring_the_same_snapshots_and_go_on_where_a_reader_was() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            own = {"sec-fetch-site": "same-origin"}
            async with client.stream("GET", "/dashboard/events", headers=own) as reply:
                assert reply.headers["content-type"].startswith("text/event-stream")
                assert reply.headers["cache-control"] == "no-store"
                assert INERT_HEADERS.items() <= reply.headers.items()
                events = read_events(reply)
                first_id, first = await anext(events)
                assert first["id"] == 1
                await client.post("/v1/chat/completions", json=chat_body(max_tokens=20))
                second_id, second = await anext(events)
                assert second["step"] > 0
                assert second == json.loads(context.live.ring.after(1).data)
            await soon(lambda: context.live.viewers.num_open == 0)
            async with client.stream("GET", "/dashboard/events", headers={"last-event-id": first_id}) as reply:
                assert (await anext(read_events(reply)))[0] == second_id

    serving(test)


def test_dashboards_are_bounded_and_are_no_requests() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            async with contextlib.AsyncExitStack() as watching:
                for _ in range(MAX_VIEWERS):
                    await watching.enter_async_context(client.stream("GET", "/dashboard/events"))
                check_envelope(await client.get("/dashboard/events"), 503, code="too_many_viewers")
                assert engine.admission.num_taken == 0
            await soon(lambda: context.live.viewers.num_open == 0)

    serving(test)


def test_a_server_that_ends_does_not_wait_for_dashboards() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            async with client.stream("GET", "/dashboard/events") as reply:
                events = read_events(reply)
                await anext(events)
                stop.ask()
                assert [event async for event in events] == []  # it ends as a whole reply, not as one cut off
            await asyncio.wait_for(task, 5)

    serving(test, drain_timeout_s=60.0)


def test_who_goes_away_makes_room() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        context.live.viewers._max_viewers = 1
        for _ in range(3):
            await soon(lambda: context.live.viewers.num_open == 0)
            client = httpx.AsyncClient(base_url=url, timeout=10)
            async with client, client.stream("GET", "/dashboard/events") as reply:
                await anext(read_events(reply))
        await soon(lambda: context.live.viewers.num_open == 0 and context.gate.num_inside == 0)

    serving(test)


def test_who_reads_nothing_holds_one_snapshot_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100_000
    monkeypatch.setattr(SendTimeoutProtocol, "send_timeout_s", 0.2)
    waiting: list[int] = []
    end = SendTimeoutProtocol._end_unless_taken

    def watched(self: SendTimeoutProtocol, num_waiting: int) -> None:
        waiting.append(num_waiting)
        end(self, num_waiting)

    monkeypatch.setattr(SendTimeoutProtocol, "_end_unless_taken", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        for _ in range(MAX_SNAPSHOTS):
            context.live.ring.append(b"0" * size)
        with socket.socket() as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            asking.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(asking, ("127.0.0.1", int(url.rpartition(":")[2])))
            await loop.sock_sendall(asking, b"GET /dashboard/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await soon(lambda: context.live.viewers.num_open == 1)
            await soon(lambda: context.live.viewers.num_open == 0 and context.gate.num_inside == 0)
        assert 0 < max(waiting) < size + 1000

    serving(test)


def test_a_dashboard_that_fails_says_so_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            async with client.stream("GET", "/dashboard/events") as reply:
                events = read_events(reply)
                await anext(events)
                context.live.advance = lambda: 1 / 0
                assert [event async for event in events] == []
            check_envelope(await client.get("/dashboard/events"), 503, code="dashboard_ended")
            assert (await client.post("/v1/chat/completions", json=chat_body())).status_code == 200
        [failed] = [record for record in caplog.records if "the dashboard has failed" in record.getMessage()]
        assert failed.exc_info is not None and failed.exc_info[0] is ZeroDivisionError

    serving(test)


def test_both_take_a_key() -> None:
    server = InProcess(FakeEngine(), api_key=(KEY,))
    for path in ("/dashboard/snapshot", "/dashboard/events"):
        check_envelope(server.get(path), 401, code="invalid_api_key")
    assert server.get("/dashboard/snapshot", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
