"""Deadlines and places: in the queue, in a prompt, in a stream; under ten times what fits."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.conftest import MODEL, InProcess, chat_body, make_server_context, sse_events
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.one_seat import OneSeat

from octavo import SamplingParams
from octavo.config.server_config import ServerConfig
from octavo.core.errors import DeadlineExceededError
from octavo.engine.liveness import EngineState
from octavo.server.app import build_app
from octavo.server.generation import GenerationCall, generate_all
from octavo.server.request_record import RequestRecord, current_record
from octavo.server.visit import Visit

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(("options", "fields"), [({"request_timeout": 0.05}, {}), ({}, {"timeout": 0.05})])
def test_before_the_first_token_it_is_504(options: dict[str, Any], fields: dict[str, Any], is_streamed: bool) -> None:
    server = InProcess(FakeEngine(), **options)
    server.engine.is_held = True
    for path, body in ((CHAT, chat_body()), (COMPLETIONS, {"model": MODEL, "prompt": ["a", "b"], "n": 2})):
        reply = server.post(path, {**body, **fields, "stream": is_streamed})
        error = check_envelope(reply, 504, code="timeout")
        assert error["type"] == "timeout_error" and "0.05 s" in error["message"]
        assert error["param"] == ("timeout" if fields else None)
        assert ("raise timeout" if fields else "--request-timeout") in error["message"]
        assert reply.headers["x-should-retry"] == "false"
    assert len(server.engine.aborted) == 3 and not server.engine.open_ids
    assert server.engine.admission.num_taken == 0


def test_a_timeout_that_is_as_long_as_it_may_be_is_not_to_be_raised() -> None:
    server = InProcess(FakeEngine(), request_timeout=0.05)
    server.engine.is_held = True
    error = check_envelope(server.post(CHAT, chat_body(timeout=0.05)), 504, "timeout", "timeout")
    assert "raise" not in error["message"]


@pytest.fixture
def expire(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The deadline of the request that came last: when it is called, not before."""
    armed: list[Callable[[], None]] = []

    def arm(visit: Visit, expire: Callable[[DeadlineExceededError], None]) -> asyncio.TimerHandle:
        armed.append(lambda: expire(visit._expired()))
        return asyncio.get_running_loop().call_later(3600.0, lambda: None)

    monkeypatch.setattr(Visit, "at_deadline", arm)
    return lambda: armed[-1]()


def expires_after(engine: FakeEngine, num_steps: int, expire: Callable[[], None]) -> None:
    async def wait_turn(step: int) -> None:
        if step >= num_steps:
            expire()
            await asyncio.Event().wait()

    engine._wait_turn = wait_turn  # type: ignore[method-assign]


def test_in_a_stream_it_is_an_error_event(expire: Callable[[], None]) -> None:
    server = InProcess(FakeEngine(), request_timeout=60.0)
    expires_after(server.engine, 3, expire)
    reply = server.post(CHAT, chat_body(stream=True, n=2))
    assert reply.status_code == 200
    *chunks, last = [json.loads(event) for event in sse_events(reply.content)]
    assert last["error"]["code"] == "timeout" and len(chunks) > 3
    assert len(server.engine.aborted) == 1 and server.engine.admission.num_taken == 0


def test_an_answer_that_is_not_streamed_ends_in_the_middle_too(expire: Callable[[], None]) -> None:
    server = InProcess(FakeEngine(), request_timeout=60.0)
    expires_after(server.engine, 3, expire)
    check_envelope(server.post(CHAT, chat_body()), 504, code="timeout")
    assert len(server.engine.aborted) == 1


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_tokenising_counts(path: str) -> None:
    server = InProcess(FakeEngine(), request_timeout=0.05)

    async def never(*args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    server.engine.texts.tokenize = never  # type: ignore[method-assign]
    body = chat_body() if path == CHAT else {"model": MODEL, "prompt": "Hi"}
    check_envelope(server.post(path, body), 504, code="timeout")
    assert server.engine.admission.num_taken == 0 and not server.engine.calls


COUNTING = {
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [1]},
    "/v1/messages/count_tokens": chat_body(),
}


@pytest.mark.parametrize("path", COUNTING)
def test_what_generates_nothing_has_a_deadline_and_a_place_too(path: str) -> None:
    server = InProcess(FakeEngine(), request_timeout=0.05)
    assert server.post(path, COUNTING[path]).status_code == 200
    assert server.engine.admission.num_taken == 0
    server.engine.admission.take(server.engine.admission.limit)
    reply = server.post(path, COUNTING[path])
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1
    assert server.engine.admission.num_taken == server.engine.admission.limit

    async def never(*args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    server = InProcess(FakeEngine(), request_timeout=0.05)
    server.engine.texts.tokenize = server.engine.texts.list_tokens = server.engine.texts.count_tokens = never  # type: ignore[method-assign]
    assert server.post(path, COUNTING[path]).status_code == 504
    assert server.engine.admission.num_taken == 0


def test_a_reader_that_stops_reading_does_not_stop_the_deadline() -> None:
    async def main() -> None:
        current_record.set(RequestRecord("POST", CHAT, {}))
        engine = FakeEngine()
        engine.is_held, engine.hold_after = True, 1
        visit = Visit("")
        visit.limit_time(ServerConfig(request_timeout=0.05), None)
        call = GenerationCall(
            id="x", prompts=[[1]], params=SamplingParams(max_tokens=9), priority=0, cache_salt="", visit=visit
        )
        stream = generate_all(make_server_context(engine), call)
        await anext(stream)
        await asyncio.wait_for(engine.has_aborted.wait(), 5)
        with pytest.raises(DeadlineExceededError):
            async for _ in stream:
                pass

    asyncio.run(main())


def test_a_request_may_ask_for_less_but_not_for_more() -> None:
    server = InProcess(FakeEngine(), request_timeout=5.0)
    server.chat(timeout=5)
    server.chat(timeout=0.5)
    server.chat(timeout=None)
    for timeout, says in (
        (5.1, "more than the 5 s of this server's --request-timeout; lower it"),
        (0.0, "not above 0; raise it"),
    ):
        error = check_envelope(server.post(CHAT, chat_body(timeout=timeout)), 400, "timeout", "invalid_value")
        assert says in error["message"]


def test_one_that_is_in_time_is_answered_whole() -> None:
    server = InProcess(FakeEngine(), request_timeout=30.0)
    assert server.chat()["choices"][0]["finish_reason"] == "stop"
    assert server.stream(CHAT, chat_body())[-1]["choices"][0]["finish_reason"] == "stop"
    assert not server.engine.aborted


def test_the_engine_frees_what_ran_out_of_time_and_never_runs_what_waited(
    tiny: Callable[[str], Path], expire: Callable[[], None]
) -> None:
    """One request runs, one waits for its seat until its deadline."""

    async def main() -> None:
        async with OneSeat.started(tiny("llama")) as seat:
            running = asyncio.gather(*[seat.run("running") for _ in range(5)])
            await seat.until(lambda stats: stats.num_waiting == 4)
            waiting = asyncio.create_task(seat.run("waiting"))
            await seat.until(lambda stats: stats.num_waiting == 5)
            expire()
            with pytest.raises(DeadlineExceededError):
                await waiting
            await running
            assert seat.num_steps["running"] == 5 * 240
            cut = asyncio.create_task(seat.run("cut"))
            await seat.until(lambda stats: seat.num_steps["cut"] > 0)
            expire()
            with pytest.raises(DeadlineExceededError):
                await cut
            await seat.until(lambda stats: not stats.num_held_blocks)
            assert seat.num_steps["waiting"] <= 1, "only the event of its end"
            assert seat.num_steps["cut"] < 240
            assert seat.engine.admission.num_taken == 0

    asyncio.run(asyncio.wait_for(main(), 60))


# ── places ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_what_cannot_be_answered_is_refused_before_any_work_is_done_for_it(path: str) -> None:
    def worked(*args: Any, **options: Any) -> Any:
        raise AssertionError("the prompt was rendered or tokenised")

    server = InProcess(FakeEngine())
    server.engine.texts.tokenize = server.engine.texts.render_chat = worked  # type: ignore[method-assign]
    server.engine.state = EngineState.STALLED
    body = chat_body() if path == CHAT else {"model": MODEL, "prompt": "a"}
    check_envelope(server.post(path, body), 503)
    assert server.engine.admission.num_taken == 0


def test_sequences_count_not_requests() -> None:
    server = InProcess(FakeEngine(max_num_seqs=4, max_num_queued_reqs=4))
    body = {"model": MODEL, "prompt": ["a", "b", "c"]}
    check_envelope(server.post(COMPLETIONS, {**body, "n": 3}), 400, "n", "invalid_value")
    server.engine.admission.take(3)
    reply = server.post(COMPLETIONS, {**body, "n": 2})
    check_envelope(reply, 503, code="queue_full")
    assert int(reply.headers["retry-after"]) >= 1
    server.complete(["a", "b", "c"], n=1)
    check_envelope(server.post(CHAT, chat_body(n=6)), 503, code="queue_full")
    assert server.engine.admission.num_taken == 3


def test_refusals_give_everything_back() -> None:
    server = InProcess(FakeEngine())
    bad = [
        (COMPLETIONS, {"model": MODEL, "prompt": ["a", "b" * 600]}),
        (COMPLETIONS, {"model": MODEL, "prompt": [[97], [260]]}),
        (COMPLETIONS, {"model": MODEL, "prompt": ["a", "b" * 400], "max_tokens": 200, "n": 3}),
        (CHAT, chat_body("Hi", max_tokens=600, n=2)),
        (CHAT, chat_body("x" * 600)),
    ]
    for path, body in bad:
        for is_streamed in (False, True):
            check_envelope(server.post(path, {**body, "stream": is_streamed}), 400)
    server.engine.fails_after = 3
    check_envelope(server.post(CHAT, chat_body(n=2)), 500)
    server.post(CHAT, chat_body(n=2, stream=True))
    assert server.engine.admission.num_taken == 0 and not server.engine.open_ids


def test_those_that_are_tokenised_have_places() -> None:
    """And the one that is refused is refused before it is tokenised itself."""

    async def main() -> None:
        engine = FakeEngine(max_num_seqs=1, max_num_queued_reqs=1)
        may_go_on, renders = threading.Event(), []
        render = engine.texts.render_chat

        async def slow_render(messages: Any, **options: Any) -> str:
            renders.append(messages)
            await asyncio.to_thread(may_go_on.wait, 5)
            return await render(messages, **options)

        engine.texts.render_chat = slow_render  # type: ignore[method-assign]
        transport = httpx.ASGITransport(build_app(make_server_context(engine)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            accepted = [asyncio.create_task(client.post(CHAT, json=chat_body())) for _ in range(2)]
            while len(renders) < 2:
                await asyncio.sleep(0)
            check_envelope(await client.post(CHAT, json=chat_body()), 503, code="queue_full")
            assert len(renders) == 2
            may_go_on.set()
            assert [(await task).status_code for task in accepted] == [200, 200]
        assert engine.admission.num_taken == 0

    asyncio.run(main())


def ask_eighty(client: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
    """Chats and completions, streamed or not, of one to six sequences."""
    rng = random.Random(0)
    tasks = []
    for index in range(80):
        body: dict[str, Any] = {"max_tokens": 5, "stream": rng.random() < 0.5, "n": rng.choice([1, 1, 2, 3])}
        if index % 2:
            body |= {"model": MODEL, "prompt": ["a", "b"][: rng.randrange(1, 3)]}
            tasks.append(asyncio.create_task(client.post(COMPLETIONS, json=body)))
        else:
            tasks.append(asyncio.create_task(client.post(CHAT, json=chat_body(**body))))
    return tasks


def test_ten_times_what_fits() -> None:
    """Every request ends; what is refused is refused while those inside have not moved, and told when to return."""

    async def main() -> None:
        engine = FakeEngine(max_num_seqs=4, max_num_queued_reqs=4)
        engine.is_held = True
        transport = httpx.ASGITransport(build_app(make_server_context(engine)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
            tasks = ask_eighty(client)
            done: set[asyncio.Task[httpx.Response]] = set()
            while len(done) < 70:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
                await asyncio.sleep(0)
            refused = [task.result() for task in done]
            assert engine.admission.num_taken <= engine.admission.limit
            engine.is_held = False
            replies = await asyncio.gather(*tasks)
        for reply in refused:
            check_envelope(reply, 503, code="queue_full")
            assert 1 <= int(reply.headers["retry-after"]) <= 60
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) == {200, 503} and statuses[200] >= 3
        for reply in replies:
            if reply.headers["content-type"].startswith("text/event-stream"):
                assert sse_events(reply.content)[-1] == "[DONE]"
        assert engine.admission.num_taken == 0 and not engine.open_ids and not engine.aborted

    asyncio.run(main())


# ── priorities ───────────────────────────────────────────────────────────────────────────────────


def test_priorities_reach_the_engine_where_it_reads_them() -> None:
    options = {**FakeEngine().info.options, "scheduling_policy": "priority"}
    server = InProcess(FakeEngine(options=options))
    server.chat(priority=-3)
    server.complete(priority=7)
    assert [priority for _, _, priority, _ in server.engine.calls] == [-3, 7]
    check_envelope(InProcess(FakeEngine()).post(CHAT, chat_body(priority=1)), 400, "priority")
