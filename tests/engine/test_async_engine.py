"""`AsyncEngine`: streams, and what reaches the engine."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from engine.running_engine import LONG, collect, engine, run, spy, until

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.core.errors import (
    ContextLengthError,
    InvalidRequestError,
    QueueFullError,
    ShuttingDownError,
)
from octavo.engine.text_work import LONG_TEXT_LEN, SHORT_TEXT_THREADS


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


def test_the_kv_blocks_are_shown_as_they_are_at_rest(tiny: Callable[[str], Path]) -> None:
    params = SamplingParams(max_tokens=20, ignore_eos=True)

    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            num_blocks = started.info.num_blocks
            assert (started.block_map.step, started.block_map.num_free) == (0, num_blocks)
            for _ in range(3):
                await collect(started.generate(list(range(5, 85)), params, request_id="a"))
                await until(lambda: started.stats is not None and started.block_map.step == started.stats.step)
                shown = started.block_map
                assert shown.num_private == shown.num_shared == 0 < shown.num_cached
                assert shown.num_cached + shown.num_free == num_blocks

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
            text = await started.texts.render_chat([{"role": "user", "content": "Hello"}])
            assert await started.texts.tokenize(text)
            assert set(threads) == {"render", "tokenize"}
            assert threading.get_ident() not in threads.values()
        finally:
            await started.shutdown()

    run(scenario)


def test_who_has_a_short_text_never_waits_behind_long_ones(tiny_with_tokenizer: Path) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        started = await AsyncEngine.start(config)
        has_begun, may_go_on = threading.Event(), threading.Event()
        spy(started.front_end.tokenizer, "count", lambda: (has_begun.set(), may_go_on.wait(10)))
        long_text = "x" * LONG_TEXT_LEN
        waiting = [asyncio.create_task(started.texts.count_tokens(long_text)) for _ in range(SHORT_TEXT_THREADS + 5)]
        await until(has_begun.is_set)
        assert started.texts.num_jobs == len(waiting)
        assert await started.texts.tokenize("Hello")
        with pytest.raises(ContextLengthError):  # a long one, so that it has to wait
            may_go_on.set()
            await started.texts.tokenize(long_text)
        counts = await asyncio.gather(*waiting)
        assert set(counts) == {started.front_end.tokenizer.count(long_text)}
        await started.shutdown()
        with pytest.raises(ShuttingDownError):
            await started.texts.count_tokens(long_text)

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
