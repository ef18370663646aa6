"""Figure 9: an exception in the processing of one request ends that request alone, wherever it is raised."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, AsyncEngine, RequestOutput, SamplingParams
from octavo.config import EngineConfig
from octavo.sampling import GrammarState, processors
from octavo.tokenizer.detokenizer import IncrementalDetokenizer

BAD, GOOD = 4, (3, 5)
BIASED = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True, logit_bias={9: 1.0})
SHAPED = SamplingParams(max_tokens=6, temperature=0.0, structured_outputs={"regex": "[a-z]{6}"})
OPTIONS: dict[str, Any] = {"kv_cache_memory": "1M", "max_model_len": 128, "threads": 1}


def injected(*args: Any) -> Any:
    raise RuntimeError("injected")


def run(llm: LLM, first_tokens: tuple[int, ...], params: SamplingParams) -> list[RequestOutput]:
    return llm.generate([[token] for token in first_tokens], params)


def check_alone(llm: LLM, params: SamplingParams, expected: list[RequestOutput]) -> None:
    """The bad one among the good ones failed, and nothing of it is left."""
    good, bad, also_good = run(llm, (GOOD[0], BAD, GOOD[1]), params)
    assert bad.error is not None and "injected" in bad.error
    assert bad.outputs[0].finish_reason == "error"
    assert [good.outputs, also_good.outputs] == [output.outputs for output in expected]
    assert llm._core is not None
    assert not llm._core.has_work() and llm._core.scheduler.cache.pool.num_held == 0


@pytest.fixture
def llm(tiny_with_tokenizer: Path) -> Any:
    with LLM(str(tiny_with_tokenizer), **OPTIONS) as llm:
        yield llm


def test_in_its_logits(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, process = run(llm, GOOD, BIASED), processors.process
    monkeypatch.setattr(
        processors,
        "process",
        lambda logits, row: (injected if row.prompt_token_ids[0] == BAD else process)(logits, row),
    )
    check_alone(llm, BIASED, expected)


@pytest.mark.parametrize("method", ["forbid_others", "is_complete_with"])
def test_in_its_grammar(llm: LLM, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the grammars made in a run is the bad request's."""
    expected = run(llm, GOOD, SHAPED)
    made: list[GrammarState] = []
    make, sound = GrammarState.__init__, getattr(GrammarState, method)

    def counted(self: GrammarState, grammar: Any) -> None:
        make(self, grammar)
        made.append(self)

    monkeypatch.setattr(GrammarState, "__init__", counted)
    monkeypatch.setattr(
        GrammarState, method, lambda self, *args: (injected if made.index(self) == 1 else sound)(self, *args)
    )
    check_alone(llm, SHAPED, expected)


def test_where_its_grammar_is_taken_in(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(llm, GOOD, SHAPED)
    assert llm._core is not None
    grammars = llm._core.grammars
    find, asked = grammars.of, []

    def second_fails(request_id: str) -> Any:
        asked.append(request_id)
        return (injected if len(asked) == 2 else find)(request_id)

    monkeypatch.setattr(grammars, "of", second_fails)
    check_alone(llm, SHAPED, expected)
    assert not grammars._of_request


def test_in_its_text(tiny_with_tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine's process: the front end is what fails here, and it tells the engine to stop."""
    push = IncrementalDetokenizer.push
    texts: list[IncrementalDetokenizer] = []

    def broken(self: IncrementalDetokenizer, token_ids: Any) -> Any:
        if self not in texts:
            texts.append(self)
        return (injected if self is texts[0] else push)(self, token_ids)

    async def main() -> None:
        engine = await AsyncEngine.start(EngineConfig(model=str(tiny_with_tokenizer), **OPTIONS))
        params = SamplingParams(max_tokens=60, ignore_eos=True, temperature=0.0)

        async def ask(name: str) -> list[Any]:
            return [delta async for delta in engine.generate([5, 6], params, request_id=name)]

        try:
            bad = asyncio.create_task(ask("bad"))
            while not texts:
                await asyncio.sleep(0)
            good = await ask("good")
            last = (await bad)[-1]
            assert last.error is not None and "injected" in last.error.message
            assert good[-1].error is None and sum(len(piece.token_ids) for d in good for piece in d.outputs) == 60
            assert engine.stats is not None
            assert engine.stats.num_held_blocks == 0 and engine.stats.num_running == 0
        finally:
            await engine.shutdown()

    monkeypatch.setattr(IncrementalDetokenizer, "push", broken)
    asyncio.run(asyncio.wait_for(main(), 60))
