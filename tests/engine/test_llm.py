"""`LLM`: inputs, outputs, stops, samples, failures, closing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import VOCAB_SIZE

from octavo import LLM, SamplingParams
from octavo.core.errors import (
    ConfigError,
    ContextLengthError,
    EngineDeadError,
    InvalidRequestError,
    ModelFileError,
    ModelNotFoundError,
    NotBuiltError,
    OctavoError,
    UnsupportedModelError,
)

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(tiny: Callable[[str], Path]) -> Iterator[LLM]:
    with LLM(str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M") as llm:
        yield llm


def assert_idle(llm: LLM) -> None:
    """Nothing runs, waits or holds a block."""
    assert llm._core is not None
    stats = llm._core.scheduler.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_held_blocks) == (0, 0, 0)


def test_token_ids_in_and_out(llm: LLM) -> None:
    [one] = llm.generate([5, 6, 7], GREEDY)
    many = llm.generate([[5, 6, 7], [9]], GREEDY)
    assert many[0].outputs[0].token_ids == one.outputs[0].token_ids
    assert [len(output.outputs[0].token_ids) for output in many] == [8, 8]
    assert one.prompt_token_ids == [5, 6, 7]
    assert one.outputs[0].finish_reason == "length"
    assert one.is_finished
    assert one.metrics is not None
    assert 0 < one.metrics.ttft_s <= one.metrics.e2e_s
    assert one.metrics.tpot_s > 0
    assert_idle(llm)


def test_stop_token(llm: LLM) -> None:
    [full] = llm.generate([5, 6, 7], GREEDY)
    tokens = full.outputs[0].token_ids
    stop = tokens[3]
    [stopped] = llm.generate(
        [5, 6, 7], SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, stop_token_ids=[stop])
    )
    assert stopped.outputs[0].token_ids == tokens[: tokens.index(stop) + 1]
    assert stopped.outputs[0].finish_reason == "stop"
    assert stopped.outputs[0].stop_reason == stop


def test_min_tokens_holds_the_stop_back(llm: LLM) -> None:
    [full] = llm.generate([5, 6, 7], GREEDY)
    stop = full.outputs[0].token_ids[0]
    params = SamplingParams(temperature=0, max_tokens=8, min_tokens=4, ignore_eos=True, stop_token_ids=[stop])
    [held] = llm.generate([5, 6, 7], params)
    assert len(held.outputs[0].token_ids) >= 4


def test_samples_of_one_prompt_differ_and_repeat(llm: LLM) -> None:
    params = SamplingParams(n=4, seed=3, max_tokens=12, temperature=1.5, ignore_eos=True, logprobs=1)
    prompt = list(range(3, 40))
    [first], [second] = llm.generate(prompt, params), llm.generate(prompt, params)
    samples = [tuple(sample.token_ids) for sample in first.outputs]
    assert len(set(samples)) == 4
    assert samples == [tuple(sample.token_ids) for sample in second.outputs]
    assert [sample.index for sample in first.outputs] == [0, 1, 2, 3]
    for sample in first.outputs:
        assert sample.logprobs is not None
        assert sample.cumulative_logprob == pytest.approx(
            sum(row[token].logprob for token, row in zip(sample.token_ids, sample.logprobs, strict=True))
        )


def test_samples_share_the_prompt_blocks(llm: LLM) -> None:
    """Eight samples of a 64-token prompt hold its blocks once."""
    assert llm._core is not None
    held = []
    params = SamplingParams(n=8, seed=1, max_tokens=4, ignore_eos=True)
    request = llm._input.process("shared", list(range(2, 66)), params)
    call = llm._admit([request])
    while call.num_open:
        llm._step(call)
        call.take()
        held.append(llm._core.scheduler.stats().num_held_blocks)
    assert max(held) <= 64 // 16 + 8 + 8  # the prompt's four, and at most a copy and a new one each
    assert_idle(llm)


def test_prefix_is_reported(llm: LLM) -> None:
    prompt = [(7 * i) % VOCAB_SIZE for i in range(50)]
    llm.generate(prompt, GREEDY)
    [again] = llm.generate(prompt, GREEDY)
    assert again.num_cached_tokens == 48


def test_allowed_tokens(llm: LLM) -> None:
    params = SamplingParams(n=3, allowed_token_ids=(3, 5), max_tokens=16, ignore_eos=True, seed=0)
    allowed, free = llm.generate([[5, 6], [5, 6]], [params, GREEDY])
    assert {token for sample in allowed.outputs for token in sample.token_ids} == {3, 5}
    assert not set(free.outputs[0].token_ids) <= {3, 5}


def test_prompt_logprobs(llm: LLM) -> None:
    [output] = llm.generate([5, 6, 7, 8], SamplingParams(max_tokens=1, prompt_logprobs=0, ignore_eos=True))
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert [next(iter(entry)) for entry in output.prompt_logprobs[1:] if entry] == [6, 7, 8]


def test_priorities_reorder(tiny: Callable[[str], Path]) -> None:
    with LLM(
        str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M", max_num_seqs=1, scheduling_policy="priority"
    ) as llm:
        outputs = llm.generate([[3], [4], [5]], GREEDY, priorities=[2, 0, 1])
        started = [output.metrics.queue_s for output in outputs if output.metrics is not None]
        assert started[1] < started[2] < started[0]


@pytest.mark.parametrize(
    ("prompt", "params", "error", "says"),
    [
        ([], {}, InvalidRequestError, "empty"),
        ([VOCAB_SIZE], {}, InvalidRequestError, f"0 … {VOCAB_SIZE - 1}"),
        ([-1], {}, InvalidRequestError, "-1"),
        ([3, True], {}, InvalidRequestError, "True"),
        ([3] * 256, {}, ContextLengthError, "256"),
        ([3] * 250, {"max_tokens": 10}, ContextLengthError, "lower it to 6"),
        ("text", {}, InvalidRequestError, "skip_tokenizer_init"),
        ([3], {"temperature": float("nan")}, InvalidRequestError, "temperature"),
        ([3], {"temperature": -1}, InvalidRequestError, "temperature"),
        ([3], {"top_p": 0}, InvalidRequestError, "top_p"),
        ([3], {"top_k": 1.5}, InvalidRequestError, "top_k"),
        ([3], {"n": 0}, InvalidRequestError, "n=0"),
        ([3], {"max_tokens": 0}, InvalidRequestError, "max_tokens"),
        ([3], {"logprobs": 21}, InvalidRequestError, "0 to 20"),
        ([3], {"seed": 2**64}, InvalidRequestError, "seed"),
        ([3], {"stop_token_ids": [VOCAB_SIZE]}, InvalidRequestError, "stop_token_ids"),
        ([3], {"logit_bias": {VOCAB_SIZE: 1.0}}, InvalidRequestError, "logit_bias"),
        ([3], {"logit_bias": {3: float("inf")}}, InvalidRequestError, "logit_bias"),
        ([3], {"allowed_token_ids": []}, InvalidRequestError, "allowed_token_ids"),
        ([3], {"stop": "x"}, InvalidRequestError, "tokenizer"),
        ([3], {"temperature": 10**400}, InvalidRequestError, "temperature"),
        ([3], {"stop": 5}, InvalidRequestError, "a list"),
        ([3], {"stop": ["\ud800"]}, InvalidRequestError, "Unicode"),
        ([3], {"stop_token_ids": 5}, InvalidRequestError, "a list"),
        ([3], {"logit_bias": [1]}, InvalidRequestError, "mapping"),
        ([3], {"min_tokens": 300, "max_tokens": None}, ContextLengthError, "min_tokens"),
        (None, {}, InvalidRequestError, "NoneType"),
        (b"ab", {}, InvalidRequestError, "bytes"),
        ([3], {"structured_outputs": {}}, InvalidRequestError, "exactly one of"),
        ([3], {"structured_outputs": {"json": {}}}, InvalidRequestError, "need a tokenizer"),
    ],
)
def test_bad_requests_are_refused_and_leave_nothing(
    llm: LLM, prompt: Any, params: dict[str, Any], error: type[OctavoError], says: str
) -> None:
    with pytest.raises(error, match=says):
        llm.generate([prompt], SamplingParams(**params))
    assert_idle(llm)
    assert len(llm.generate([3, 4], GREEDY)[0].outputs[0].token_ids) == 8


def test_a_bad_prompt_among_good_ones_runs_none(llm: LLM) -> None:
    with pytest.raises(InvalidRequestError):
        llm.generate([[3], [VOCAB_SIZE]], GREEDY)
    assert_idle(llm)


def test_one_row_failing_fails_alone(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception injected into one request's processing ends that request, and only it."""
    from octavo.worker.input_batch import RequestRow

    advance = RequestRow.advance
    expected = llm.generate([[3], [5]], GREEDY)

    def broken(self: RequestRow, scheduled: Any) -> None:
        if self.prompt_token_ids[0] == 4:
            raise RuntimeError("injected")
        advance(self, scheduled)

    monkeypatch.setattr(RequestRow, "advance", broken)
    good, bad, also_good = llm.generate([[3], [4], [5]], GREEDY)
    assert bad.outputs[0].finish_reason == "error"
    assert bad.error is not None
    assert "injected" in bad.error
    assert [good.outputs, also_good.outputs] == [output.outputs for output in expected]
    assert_idle(llm)


def test_a_failed_pass_leaves_a_working_engine(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    assert llm._core is not None
    with monkeypatch.context() as patch:
        patch.setattr(llm._core.runner, "_pass", None)
        [failed] = llm.generate([3], GREEDY)
    assert failed.outputs[0].finish_reason == "error"
    assert_idle(llm)
    assert llm.generate([3], GREEDY)[0].outputs[0].finish_reason == "length"


def test_leaving_a_stream_early_ends_the_request(llm: LLM) -> None:
    for delta in llm.stream([3, 4], SamplingParams(max_tokens=100, ignore_eos=True)):
        assert delta.outputs
        break
    assert_idle(llm)


def test_interrupt_leaves_nothing_behind(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.engine import llm as module

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_accumulate", interrupt)
        llm.generate([3], GREEDY)
    assert_idle(llm)


def test_closed(tiny: Callable[[str], Path]) -> None:
    llm = LLM(str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="1M")
    llm.close()
    with pytest.raises(EngineDeadError, match="closed"):
        llm.generate([3])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"modle": "x"}, ConfigError, "unknown option modle"),
        ({"max_num_batch_tokens": 5}, ConfigError, "did you mean max_num_batched_tokens"),
        ({"enable_lora": True}, NotBuiltError, "--enable-lora is not built yet"),
        ({"tensor_parallel_size": 2}, NotBuiltError, "--tensor-parallel-size"),
        ({"kv_cache_dtype": "fp8"}, NotBuiltError, "use auto, fp32, bf16, fp16"),
        ({"trust_remote_code": True}, ConfigError, "never run"),
        ({"block_size": 0}, ConfigError, "block_size=0"),
        ({"kv_cache_memory": "lots"}, ConfigError, "512M"),
        ({"max_model_len": 10_000}, ConfigError, "context of 256"),
        ({"kv_cache_memory": "1K"}, ConfigError, "raise kv_cache_memory"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 8}, ConfigError, "must fit one step"),
        ({"dtype": "bfloat16"}, ConfigError, "on a CPU"),
        ({"device": "cuda"}, ConfigError, "no GPU"),
        ({"threads": "two"}, ConfigError, "threads='two'"),
        ({"kv_cache_memory": "900T"}, ConfigError, "available"),
        ({"kv_cache_memory": "9" * 400}, ConfigError, "digits"),
        ({"max_model_len": "1.5"}, ConfigError, "whole number"),
        ({"chat_template": "x.jinja"}, ConfigError, "skip_tokenizer_init"),
    ],
)
def test_bad_options(tiny: Callable[[str], Path], options: dict[str, Any], error: type[OctavoError], says: str) -> None:
    with pytest.raises(error, match=says):
        LLM(**{"model": str(tiny("llama")), "skip_tokenizer_init": True, "device": "cpu", **options})


def test_bad_models(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="smollm2"):
        LLM("smolm2")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ModelFileError, match=r"cut\.gguf"):
        LLM(str(cut))
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelFileError, match="GGUF"):
        LLM(str(wrong))


def test_unknown_family_and_wrong_shape(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    import json
    import shutil

    for name, changes, error, says in [
        ("family", {"architectures": ["MysteryForCausalLM"]}, UnsupportedModelError, "MysteryForCausalLM"),
        ("shape", {"intermediate_size": 64}, ModelFileError, "gate_proj"),
        ("layers", {"num_hidden_layers": 4}, ModelFileError, r"layers\.3"),
        ("rope", {"rope_parameters": {"rope_type": "longrope"}}, UnsupportedModelError, "longrope"),
        ("type", {"hidden_size": "48"}, ModelFileError, "hidden_size"),
    ]:
        directory = tmp_path / name
        shutil.copytree(tiny("llama"), directory)
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(error, match=says):
            LLM(str(directory), skip_tokenizer_init=True)


def test_calls_may_interleave(llm: LLM) -> None:
    params = SamplingParams(seed=1, max_tokens=20, ignore_eos=True)
    expected = [llm.generate([token], params)[0].outputs[0].token_ids for token in (3, 4)]
    streams = [llm.stream([token], params) for token in (3, 4)]
    tokens: list[list[int]] = [[], []]
    for deltas in zip(*streams, strict=True):
        for index, delta in enumerate(deltas):
            tokens[index] += [token for piece in delta.outputs for token in piece.token_ids]
        assert len(llm.generate([5], GREEDY)[0].outputs[0].token_ids) == 8
    assert tokens == expected
    assert_idle(llm)


def test_leaving_one_stream_leaves_the_other(llm: LLM) -> None:
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    kept, left = llm.stream([3], params), llm.stream([4], params)
    next(kept), next(left)
    left.close()
    assert list(kept)[-1].is_finished
    assert_idle(llm)


def test_a_policy_between_clients_is_refused_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match="use fcfs or priority") as raised:
        LLM(scheduling_policy="fair")
    assert raised.value.param == "scheduling_policy"


def test_priorities_need_the_policy_and_a_number(llm: LLM) -> None:
    for priorities in ([1, 0], ["a", None], [1 << 70, 0]):
        with pytest.raises(InvalidRequestError, match="priority"):
            llm.generate([[3], [4]], GREEDY, priorities=priorities)  # type: ignore[arg-type]
    assert_idle(llm)


def test_ids_that_only_the_tokenizer_knows_are_refused(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer with more tokens than the model has rows: that request is refused, and no step is harmed."""
    monkeypatch.setattr(llm._input, "tokenize", lambda prompt: [3, VOCAB_SIZE + 1])
    with pytest.raises(InvalidRequestError, match=str(VOCAB_SIZE + 1)):
        llm.generate("text", GREEDY)
    assert_idle(llm)


def test_two_engines_keep_their_own_thread_counts(tiny: Callable[[str], Path]) -> None:
    from octavo import ops

    options: dict[str, Any] = {"skip_tokenizer_init": True, "kv_cache_memory": "1M"}
    with LLM(str(tiny("llama")), threads=2, **options) as two, LLM(str(tiny("llama")), threads=1, **options) as one:
        for engine, count in ((two, 2), (one, 1), (two, 2)):
            engine.generate([3], GREEDY)
            assert ops.num_threads() == count


def test_a_forked_child_is_told(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "_process_id", llm._process_id + 1)
    with pytest.raises(EngineDeadError, match="fork"):
        llm.generate([3], GREEDY)


def test_seeds_of_the_engine_repeat_and_differ(tiny: Callable[[str], Path]) -> None:
    answers = []
    for seed in (1, 1, 2, 1 + (1 << 32)):
        with LLM(str(tiny("llama")), seed=seed, skip_tokenizer_init=True, kv_cache_memory="1M") as llm:
            outputs = llm.generate([[3], [3]], SamplingParams(max_tokens=12, ignore_eos=True))
            answers.append([output.outputs[0].token_ids for output in outputs])
    assert answers[0] == answers[1]
    assert len({str(answer) for answer in answers}) == 3
    assert answers[0][0] != answers[0][1]
