"""`AsyncEngine`: the engine's process, streams, aborts, death, drain."""

import asyncio
import gc
import json
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.core.errors import (
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    EngineStalledError,
    InvalidRequestError,
    ModelFileError,
    ModelNotFoundError,
    QueueFullError,
    ShuttingDownError,
)
from octavo.core.outputs import RequestDelta
from octavo.engine import async_engine
from octavo.engine.async_engine import LONG_TEXT_LEN, TOKENIZER_THREADS
from octavo.engine.liveness import EngineState

LONG = SamplingParams(max_tokens=200, ignore_eos=True, seed=1)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


@asynccontextmanager
async def engine(path: Path, *, stall_timeout_s: float = 60.0, **options: Any) -> AsyncIterator[AsyncEngine]:
    options = {"kv_cache_memory": "4M", "threads": 1} | options
    config = EngineConfig(model=str(path), skip_tokenizer_init=True, **options)
    started = await AsyncEngine.start(config, stall_timeout_s=stall_timeout_s)
    try:
        yield started
    finally:
        await started.shutdown()


async def collect(stream: AsyncIterator[RequestDelta]) -> list[RequestDelta]:
    return [delta async for delta in stream]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_streams_are_the_same_tokens_as_llm_gives(tiny: Callable[[str], Path]) -> None:
    from octavo import LLM

    async def scenario() -> None:
        async with engine(tiny("gemma3")) as started:
            streams = [collect(started.generate([5, 6, 7 + i], LONG, request_id=str(i))) for i in range(6)]
            for index, deltas in enumerate(await asyncio.gather(*streams)):
                tokens = [token for delta in deltas for piece in delta.outputs for token in piece.token_ids]
                assert tokens == expected[index]
                assert [delta.is_finished for delta in deltas] == [False] * (len(deltas) - 1) + [True]
                assert deltas[-1].metrics is not None

    with LLM(str(tiny("gemma3")), skip_tokenizer_init=True, kv_cache_memory="4M", threads=1) as llm:
        expected = [llm.generate([5, 6, 7 + i], LONG)[0].outputs[0].token_ids for i in range(6)]
    run(scenario)


@pytest.mark.parametrize("policy", ["fair", "priority"])
def test_no_policy_changes_a_token(policy: str, tiny: Callable[[str], Path]) -> None:
    """Law 2 with preemptions, prompts that share steps, clients and priorities."""
    from octavo import LLM

    path = tiny("llama")
    prompts = [[3 + index, *range(5, 65)] for index in range(12)]
    params = SamplingParams(max_tokens=50, ignore_eos=True, seed=1)
    limits = {"kv_cache_memory": "160K", "max_model_len": 128, "max_num_batched_tokens": 80}

    async def scenario() -> None:
        async with engine(path, scheduling_policy=policy, **limits) as started:
            streams = [
                collect(
                    started.generate(
                        prompt,
                        params,
                        request_id=str(index),
                        client="ab"[index % 2],
                        priority=index % 3 if policy == "priority" else 0,
                    )
                )
                for index, prompt in enumerate(prompts)
            ]
            for index, deltas in enumerate(await asyncio.gather(*streams)):
                tokens = [token for delta in deltas for piece in delta.outputs for token in piece.token_ids]
                assert tokens == expected[index]
            assert started.stats is not None
            assert started.stats.num_preemptions > 0

    with LLM(str(path), skip_tokenizer_init=True, threads=1, kv_cache_memory="1M", max_model_len=128) as llm:
        expected = [llm.generate([prompt], params)[0].outputs[0].token_ids for prompt in prompts]
    run(scenario)


def test_closing_a_stream_frees_its_blocks(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama"), enable_prefix_caching=False) as started:
            for request in range(5):
                stream = started.generate([3, 4], LONG, request_id=str(request))
                async for _ in stream:
                    break
                await stream.aclose()  # type: ignore[attr-defined]
            await collect(started.generate([3], SamplingParams(max_tokens=1), request_id="last"))
            await until(lambda: started.stats is not None and started.stats.num_held_blocks == 0)
            assert started.stats is not None
            assert started.stats.num_free_blocks == started.stats.num_blocks

    run(scenario)


def test_a_dead_engine_is_reported_and_nobody_hangs(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            stream = started.generate([3, 4], LONG, request_id="victim")
            first = await anext(stream)
            assert not first.is_finished
            started._process.kill()
            deltas = await collect(stream)
            assert deltas[-1].is_finished
            assert deltas[-1].error is not None
            assert "died" in deltas[-1].error.message
            assert started.state is EngineState.DEAD
            with pytest.raises(EngineDeadError, match="restart"):
                await collect(started.generate([3], LONG, request_id="late"))

    run(scenario)


def test_the_start_is_told_phase_by_phase(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M")
        done: list[str] = []
        started = await AsyncEngine.start(config, lambda phase, share: done.append(phase) if share >= 1.0 else None)
        await started.shutdown()
        assert list(dict.fromkeys(done)) == [
            "start process",
            "find model",
            "open model",
            "load weights",
            "make KV cache",
        ]

    run(scenario)


def test_death_is_told_apart_from_an_end_that_was_asked_for(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            assert started.state is EngineState.RUNNING
            started._process.kill()
            await started.wait_until_dead()
            assert started.state is EngineState.DEAD
        assert started.state is EngineState.DEAD
        async with engine(tiny("llama")) as started:
            stream = started.generate([3, 4], LONG, request_id="cut off")
            await anext(stream)
            await started.shutdown()
            assert started.state is EngineState.STOPPING
            failure = (await collect(stream))[-1].error
            assert failure is not None and "shut down" in failure.message

    run(scenario)


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_process_that_is_stopped_is_stalled_until_it_goes_on(tiny: Callable[[str], Path], is_busy: bool) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama"), stall_timeout_s=1.5) as started:
            stream = started.generate([3, 4], LONG, request_id="waits")
            if is_busy:
                await anext(stream)
            started._process.send_signal(signal.SIGSTOP)
            await until(lambda: started.state is EngineState.STALLED)
            with pytest.raises(EngineStalledError, match="again later"):
                await collect(started.generate([3], LONG, request_id="late"))
            started._process.send_signal(signal.SIGCONT)
            await until(lambda: started.state is EngineState.RUNNING)
            assert (await collect(stream))[-1].error is None

    run(scenario)


def test_an_idle_engine_and_one_in_a_long_step_are_alive(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            beats: list[bool] = []
            beat = started.pulse.beat
            started.pulse.beat = lambda *, is_busy: (beats.append(is_busy), beat(is_busy=is_busy))  # type: ignore
            await until(lambda: len(beats) >= 2)
            assert not any(beats)
            beats.clear()
            deltas = await collect(started.generate([3], SamplingParams(max_tokens=5, seed=1), request_id="a"))
            assert deltas[-1].is_finished
            assert beats[0] and not beats[-1]  # before the first step, and after the last
            assert len(beats) >= 6

    run(scenario)


def test_an_end_that_was_asked_for_is_told_to_who_comes_later(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            stopping = asyncio.create_task(started.shutdown())
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDownError, match="shutting down"):
                await collect(started.generate([3], LONG, request_id="new"))
            await stopping
            assert started._process.returncode == 0

    run(scenario)


def test_prompts_are_rendered_and_tokenised_off_the_event_loop(tiny_with_tokenizer: Path) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        started = await AsyncEngine.start(config)
        threads: dict[str, int] = {}
        try:
            template, tokenizer = started.front_end.chat_template, started.front_end.tokenizer
            assert template is not None and tokenizer is not None
            for work, owner, name in (("render", template, "render"), ("tokenize", tokenizer, "encode")):
                spy(owner, name, lambda work=work: threads.__setitem__(work, threading.get_ident()))
            text = await started.render_chat([{"role": "user", "content": "Hello"}])
            assert await started.tokenize(text)
            assert set(threads) == {"render", "tokenize"}
            assert threading.get_ident() not in threads.values()
        finally:
            await started.shutdown()

    run(scenario)


def spy(owner: Any, name: str, called: Callable[[], object]) -> None:
    """Have `called` called with each call of a method, in its thread."""
    method = getattr(owner, name)

    def watched(*args: Any, **options: Any) -> Any:
        called()
        return method(*args, **options)

    object.__setattr__(owner, name, watched)


def test_who_waits_for_a_thread_when_the_engine_ends_is_told_so(tiny_with_tokenizer: Path) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        started = await AsyncEngine.start(config)
        may_go_on = threading.Event()
        begun: list[None] = []
        spy(started.front_end.tokenizer, "encode", lambda: (begun.append(None), may_go_on.wait(10)))
        waiting = [asyncio.create_task(started.tokenize("Hello")) for _ in range(TOKENIZER_THREADS + 5)]
        generating = asyncio.create_task(collect(started.generate([5], LONG, request_id="waits too")))
        await until(lambda: started.num_tokenizer_jobs == len(waiting) + 1 and len(begun) == TOKENIZER_THREADS)
        await started.shutdown()
        may_go_on.set()
        results = await asyncio.gather(*waiting, generating, return_exceptions=True)
        assert [type(result) for result in results] == [list] * TOKENIZER_THREADS + [ShuttingDownError] * 6

    run(scenario)


def test_who_has_a_short_text_never_waits_behind_long_ones(tiny_with_tokenizer: Path) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        started = await AsyncEngine.start(config)
        has_begun, may_go_on = threading.Event(), threading.Event()
        spy(started.front_end.tokenizer, "count", lambda: (has_begun.set(), may_go_on.wait(10)))
        long_text = "x" * LONG_TEXT_LEN
        waiting = [asyncio.create_task(started.count_tokens(long_text)) for _ in range(TOKENIZER_THREADS + 5)]
        await until(has_begun.is_set)
        assert started.num_tokenizer_jobs == len(waiting)
        assert await started.tokenize("Hello")
        with pytest.raises(ContextLengthError):  # a long one, so that it has to wait
            may_go_on.set()
            await started.tokenize(long_text)
        counts = await asyncio.gather(*waiting)
        assert set(counts) == {started.front_end.tokenizer.count(long_text)}
        await started.shutdown()
        with pytest.raises(ShuttingDownError):
            await started.count_tokens(long_text)

    run(scenario)


def test_a_start_ends_soon_that_waits_for_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a process of its own that waits; no thread of this one is left to be joined."""

    async def scenario() -> None:
        hub_was_asked = asyncio.Event()
        hub = await asyncio.start_server(lambda reader, writer: hub_was_asked.set(), "127.0.0.1", 0)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        before = set(threading.enumerate())
        starting = asyncio.create_task(AsyncEngine.start(EngineConfig(model="some/model")))
        await hub_was_asked.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, 5)
        assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("asyncio")]
        hub.close()

    run(scenario)


def test_refusals_come_before_the_first_delta(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama"), max_num_seqs=1, max_num_queued_reqs=1) as started:
            with pytest.raises(ContextLengthError):
                await collect(started.generate([3] * 300, LONG, request_id="long"))
            with pytest.raises(InvalidRequestError, match="100000"):
                await collect(started.generate([3, 100_000], LONG, request_id="unknown token"))
            streams = [started.generate([3], LONG, request_id=str(i)) for i in range(3)]
            await anext(streams[0])
            waiting = asyncio.ensure_future(anext(streams[1]))
            await until(lambda: len(started._streams) == 2)
            with pytest.raises(QueueFullError, match="--max-num-queued-reqs 1"):
                await anext(streams[2])
            assert not (await waiting).is_finished

    run(scenario)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"model": "no-such-model"}, ModelNotFoundError), ({"max_model_len": 99_999}, ConfigError)],
)
def test_a_start_that_fails_raises_its_own_error(
    tiny: Callable[[str], Path], options: dict[str, Any], error: type[Exception]
) -> None:
    async def scenario() -> None:
        config = EngineConfig(**{"model": str(tiny("llama")), "skip_tokenizer_init": True, **options})
        with pytest.raises(error):
            await AsyncEngine.start(config)

    run(scenario)


def test_a_start_that_fails_in_both_processes_says_so_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        unseen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        with pytest.raises(ModelFileError, match=r"no config\.json"):
            await AsyncEngine.start(EngineConfig(model=str(tmp_path)))
        gc.collect()
        assert not unseen

    run(scenario)


def test_a_front_end_that_fails_does_not_wait_for_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_ready(process: Any, inbox: Any, on_phase: Any, on_found: Callable[[Path], None]) -> None:
        on_found(tmp_path)
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(ModelFileError, match=r"no config\.json"):
            await AsyncEngine.start(EngineConfig(model=str(tmp_path)))

    monkeypatch.setattr(async_engine, "until_ready", never_ready)
    run(scenario)


@pytest.mark.parametrize("text", [None, b"\xff"])
def test_a_template_that_cannot_be_read_is_refused_before_anything_is_started(
    text: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "template"
    if text is not None:
        file.write_bytes(text)
    monkeypatch.setattr(async_engine, "spawn_engine", None)

    async def scenario() -> None:
        with pytest.raises(ConfigError, match="name a Jinja file") as raised:
            await AsyncEngine.start(EngineConfig(model="no-such-model", chat_template=str(file)))
        assert raised.value.param == "chat_template"

    run(scenario)


def test_the_engines_log_entries_have_their_requests_id(
    tiny: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M", threads=1)
        started = await AsyncEngine.start(config, log_level="DEBUG", log_format="json")
        try:
            await collect(started.generate([3, 4], SamplingParams(max_tokens=1), request_id="cmpl-1-0@mine"))
        finally:
            await started.shutdown()

    run(scenario)
    entries = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    [arrived] = [entry for entry in entries if "2 prompt tokens" in entry["message"]]
    assert arrived["request_id"].endswith("@mine")


def test_the_process_ends_with_its_parent(tiny: Callable[[str], Path]) -> None:
    """If the parent dies without a word, its end of the pipe closes and the engine ends itself."""

    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            assert started._process.stdin is not None
            started._process.stdin.close()
            assert await asyncio.wait_for(started._process.wait(), 10) == 1

    run(scenario)


def test_a_request_that_cannot_be_sent_takes_no_seat(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama"), max_num_seqs=1, max_num_queued_reqs=1) as started:
            for bad in ({"cache_salt": "\ud800"}, {"priority": 1 << 70}, {"priority": 1}):
                for _ in range(3):
                    with pytest.raises(InvalidRequestError):
                        await collect(started.generate([3], LONG, request_id="bad", **bad))
            assert not started._streams
            assert (await collect(started.generate([3], LONG, request_id="good")))[-1].error is None

    run(scenario)


def test_an_id_may_be_used_again_at_once(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            for _ in range(5):
                stream = started.generate([3, 4], LONG, request_id="same")
                assert (await anext(stream)).request_id == "same"
                await stream.aclose()  # type: ignore[attr-defined]
            deltas = await collect(started.generate([3, 4], LONG, request_id="same"))
            assert sum(len(piece.token_ids) for delta in deltas for piece in delta.outputs) == 200

    run(scenario)


def test_cancelling_the_start_ends_the_process_soon(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M")
        has_process = asyncio.Event()
        starting = asyncio.create_task(AsyncEngine.start(config, lambda phase, share: has_process.set()))
        await has_process.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, 5)

    run(scenario)


def test_nothing_is_imported_from_the_working_directory(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('run from the working directory')")
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        async with engine(tiny("llama").resolve()) as started:
            assert (await collect(started.generate([3], LONG, request_id="a")))[-1].is_finished

    run(scenario)


def test_a_long_temporary_directory(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    long = tmp_path / ("d" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            assert started.state is EngineState.RUNNING

    run(scenario)


def test_signals_to_the_whole_group_leave_the_engine_to_its_parent(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            started._process.send_signal(signal.SIGTERM)
            started._process.send_signal(signal.SIGINT)
            assert (await collect(started.generate([3], LONG, request_id="a")))[-1].error is None

    run(scenario)


def test_an_observer_that_fails_leaves_nobody_waiting(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        async with engine(tiny("llama")) as started:

            def broken(*args: object) -> None:
                raise RuntimeError("observer")

            started.subscribe(broken)
            deltas = await collect(started.generate([3], LONG, request_id="a"))
            assert deltas[-1].error is not None
            assert started.state is EngineState.DEAD

    run(scenario)
