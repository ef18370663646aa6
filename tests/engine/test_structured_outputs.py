"""Structured outputs through the engine: law 2 holds, failures stay with the request, nothing is left."""

import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, RequestOutput, SamplingParams
from octavo.core.errors import InvalidRequestError
from octavo.core.messages import AbortRequest, EngineRequest
from octavo.core.request import FinishReason
from octavo.core.structured_outputs import StructuredOutputs
from octavo.tokenizer import grammar

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
SHAPES: list[dict[str, Any] | None] = [
    {"json": SCHEMA},
    {"choice": ["yes", "no", "perhaps"]},
    {"regex": "[0-9]{4}-[0-9]{2}"},
    {"grammar": 'start: "<" /[a-z]{3,9}/ ">"'},
    None,
]
REQUESTS = [
    (
        f"request {number} is like the others",
        SamplingParams(seed=number, max_tokens=60, n=1 + number % 3, logprobs=1, structured_outputs=SHAPES[number % 5]),
    )
    for number in range(15)
]


def bits(output: RequestOutput) -> list[Any]:
    return [
        (
            sample.text,
            sample.token_ids,
            sample.finish_reason,
            [[entry.logprob for entry in row.values()] for row in sample.logprobs or ()],
        )
        for sample in output.outputs
    ]


@pytest.fixture(scope="module")
def expected(tiny_with_tokenizer: Path) -> list[Any]:
    """One at a time."""
    with LLM(
        str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1, enable_prefix_caching=False
    ) as llm:
        return [bits(llm.generate([prompt], params)[0]) for prompt, params in REQUESTS]


def test_answers_have_their_shapes(expected: list[Any]) -> None:
    for samples, (_, params) in zip(expected, REQUESTS, strict=True):
        for text, _, reason, _ in samples:
            shape = params.structured_outputs
            if shape is None or reason is not FinishReason.STOP:
                continue
            if shape.json is not None:
                assert set(json.loads(text)) == {"name", "tags"}
            if shape.choice is not None:
                assert text in shape.choice
            if shape.regex is not None:
                assert len(text) == 7
                assert text[4] == "-"
            if shape.grammar is not None:
                assert text[0] + text[-1] == "<>"
    assert (
        sum(sample[2] is FinishReason.STOP for samples in expected[1::5] + expected[2::5] for sample in samples) == 12
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_num_batched_tokens": 7},
        {"max_num_seqs": 3},
        {"threads": 2},
        {"kv_cache_memory": "60K", "max_num_seqs": 16},
    ],
)
def test_company_changes_no_bit(tiny_with_tokenizer: Path, expected: list[Any], options: dict[str, Any]) -> None:
    with LLM(
        str(tiny_with_tokenizer), **{"kv_cache_memory": "1M", "max_model_len": 128, "threads": 1, **options}
    ) as llm:
        outputs = llm.generate([prompt for prompt, _ in REQUESTS], [params for _, params in REQUESTS])
        if "60K" in options.values():
            assert llm._core is not None
            assert llm._core.scheduler.running.num_preemptions > 0
    assert [bits(output) for output in outputs] == expected


@pytest.fixture
def llm(tiny_with_tokenizer: Path) -> Any:
    with LLM(str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1) as llm:
        yield llm


def test_an_answer_that_needs_no_end_token_is_whole(llm: LLM) -> None:
    for ignore_eos in (False, True):
        params = SamplingParams(structured_outputs={"choice": ["yes"]}, ignore_eos=ignore_eos)
        [sample] = llm.generate(["Is it?"], params)[0].outputs
        assert (sample.text, sample.finish_reason) == ("yes", FinishReason.STOP)


def test_what_forbids_everything_fails_alone(llm: LLM) -> None:
    impossible = SamplingParams(structured_outputs={"choice": ["yes"]}, allowed_token_ids=(5,))
    failed, fine = llm.generate(["a", "b"], [impossible, SamplingParams(max_tokens=4)])
    assert failed.error is not None
    assert "every token is forbidden" in failed.error
    assert failed.outputs[0].finish_reason is FinishReason.ERROR
    assert fine.error is None


def test_a_bad_shape_is_refused_before_anything_runs(llm: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="unclosed group"):
        llm.generate(["a", "b"], [SamplingParams(), SamplingParams(structured_outputs={"regex": "("})])
    assert llm._core is not None
    assert not llm._core.has_work()


def request(llm: LLM, number: int) -> EngineRequest:
    params = SamplingParams(n=2, max_tokens=8, structured_outputs={"regex": "[a-z]{6}"})
    return llm._input.process(f"r{number}", [5, 6, 7], params)


def test_while_a_grammar_is_compiled_others_go_on(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    core = llm._core
    assert core is not None
    compiling: Future[Any] = Future()
    monkeypatch.setattr(core.grammars, "prepare", lambda request_id, outputs, client: compiling)
    core.add(request(llm, 0))
    core.add(request(llm, 1))
    core.add(llm._input.process("free", [5, 6, 7], SamplingParams(max_tokens=2, ignore_eos=True)))
    events = [event for _ in range(4) for event in core.step().events]
    assert {event.request_id for event in events} == {"free"}
    assert not core.has_work(), "steps are made for nothing"
    core.abort(AbortRequest("r0"))
    assert {event.request_id for event in core.step().events if event.finish_reason is FinishReason.ABORT} == {"r0"}
    compiling.set_exception(InvalidRequestError("too much", param="structured_outputs"))
    failed = core.step().events
    assert [(event.request_id, event.index) for event in failed] == [("r1", 0), ("r1", 1)]
    assert all(event.error is not None and event.error.is_of_request for event in failed)
    assert {event.error.param for event in failed if event.error} == {"structured_outputs"}
    assert not core.has_work()


def test_a_request_s_samples_share_what_was_compiled_off_the_step_loop(
    tiny_with_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seat is free at a time: none is compiled twice, none in the steps' thread."""
    texts: list[str] = []
    convert = grammar.grammar_text

    def counted(outputs: StructuredOutputs) -> str:
        if threading.current_thread() is not threading.main_thread():  # where they are tried first
            texts.append(str(outputs.regex))
        return convert(outputs)

    monkeypatch.setattr(grammar, "grammar_text", counted)
    shapes = [f"[a-z]{{{number + 1}}}" for number in range(6)]
    params = [SamplingParams(n=3, max_tokens=8, structured_outputs={"regex": shape}) for shape in shapes]
    options: dict[str, Any] = {"kv_cache_memory": "1M", "max_model_len": 128, "threads": 1, "max_num_seqs": 1}
    with LLM(str(tiny_with_tokenizer), **options) as llm:
        outputs = llm.generate(["a"] * 6, params)
        assert llm._core is not None
        assert not llm._core.grammars._of_request
    assert texts == shapes
    for number, output in enumerate(outputs):
        assert [len(sample.text) for sample in output.outputs] == [number + 1] * 3
