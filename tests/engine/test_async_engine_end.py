"""How an `AsyncEngine` ends, stalls or dies, and who is told."""

import asyncio
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from engine.running_engine import LONG, collect, engine, run, spy, until

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.core.errors import (
    EngineDeadError,
    EngineStalledError,
    ShuttingDownError,
)
from octavo.engine.liveness import EngineState
from octavo.engine.text_work import SHORT_TEXT_THREADS


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


def test_who_waits_for_a_thread_when_the_engine_ends_is_told_so(tiny_with_tokenizer: Path) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        started = await AsyncEngine.start(config)
        may_go_on = threading.Event()
        begun: list[None] = []
        spy(started.front_end.tokenizer, "encode", lambda: (begun.append(None), may_go_on.wait(10)))
        waiting = [asyncio.create_task(started.texts.tokenize("Hello")) for _ in range(SHORT_TEXT_THREADS + 5)]
        generating = asyncio.create_task(collect(started.generate([5], LONG, request_id="waits too")))
        await until(lambda: started.texts.num_jobs == len(waiting) + 1 and len(begun) == SHORT_TEXT_THREADS)
        await started.shutdown()
        may_go_on.set()
        results = await asyncio.gather(*waiting, generating, return_exceptions=True)
        assert [type(result) for result in results] == [list] * SHORT_TEXT_THREADS + [ShuttingDownError] * 6

    run(scenario)


def test_the_process_ends_with_its_parent(tiny: Callable[[str], Path]) -> None:
    """If the parent dies without a word, its end of the pipe closes and the engine ends itself."""

    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            assert started._process.stdin is not None
            started._process.stdin.close()
            assert await asyncio.wait_for(started._process.wait(), 10) == 1

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
