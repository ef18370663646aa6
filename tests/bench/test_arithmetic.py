"""The arithmetic of the benchmarks, on times that are made up."""

from types import SimpleNamespace
from typing import Any

import pytest

from octavo.bench.latency import LatencyShape, measure_latency
from octavo.bench.statistics import summarise
from octavo.bench.throughput import ThroughputShape, measure_throughput
from octavo.bench.workload import random_requests
from octavo.core.errors import ConfigError, EngineDeadError
from octavo.core.outputs import CompletionOutput, RequestMetrics, RequestOutput


class ScriptedLLM:
    """Answers each call with the next list of metrics."""

    def __init__(self, *runs: list[RequestMetrics]) -> None:
        self.info = SimpleNamespace(vocab_size=100, options={"max_num_batched_tokens": 64})
        self._runs = list(runs)
        self.prompts: list[Any] = []
        self.num_missing_tokens = 0

    def generate(self, prompts: Any, params: Any, *, show_progress: Any) -> list[RequestOutput]:
        self.prompts.append(prompts)
        return [
            RequestOutput(
                str(index),
                None,
                prompt,
                [CompletionOutput(0, token_ids=[0] * (each.max_tokens - self.num_missing_tokens))],
                metrics=metrics,
                is_finished=True,
            )
            for index, (prompt, each, metrics) in enumerate(zip(prompts, params, self._runs.pop(0), strict=True))
        ]


def metrics(arrival_s: float, ttft_s: float, tpot_s: float, e2e_s: float) -> RequestMetrics:
    return RequestMetrics(arrival_s=arrival_s, ttft_s=ttft_s, tpot_s=tpot_s, e2e_s=e2e_s)


def shape(**changes: int) -> LatencyShape:
    fields = {"input_len": 40, "output_len": 11, "batch_size": 2, "warmup": 0, "iterations": 1, "seed": 0}
    return LatencyShape(**{**fields, **changes})


def test_rates_of_a_batch() -> None:
    llm: Any = ScriptedLLM([metrics(100.0, 0.5, 0.1, 1.5), metrics(100.5, 1.5, 0.2, 3.5)])
    result = measure_latency(llm, shape())
    assert result.prefill_tokens_per_s.median == 2 * 40 / 2.0  # the last first token: 100.5 + 1.5
    assert result.decode_tokens_per_s is not None
    assert result.decode_tokens_per_s.median == 2 * 10 / 2.0  # from 102 to 104
    assert result.ttft_s.median == 1.0
    assert result.tpot_s is not None
    assert result.tpot_s.median == pytest.approx(0.15)
    assert result.total_s.median == 4.0
    assert result.num_prefill_steps == 2  # 80 tokens, 64 a step


def test_warm_up_is_not_measured_and_the_median_is_taken() -> None:
    runs = [[metrics(0.0, first, 0.1, first + 1.0)] for first in (99.0, 1.0, 4.0, 2.0)]
    llm: Any = ScriptedLLM(*runs)
    result = measure_latency(llm, shape(batch_size=1, warmup=1, iterations=3))
    assert result.ttft_s.samples == [1.0, 4.0, 2.0]
    assert result.ttft_s.median == 2.0
    assert all(prompts == llm.prompts[0] for prompts in llm.prompts)


def test_a_request_that_ends_early_is_no_measurement() -> None:
    llm = ScriptedLLM([metrics(0.0, 1.0, 0.1, 2.0)])
    llm.num_missing_tokens = 1
    scripted: Any = llm
    with pytest.raises(EngineDeadError, match="10 of 11 tokens came"):
        measure_latency(scripted, shape(batch_size=1))


def test_throughput_counts_only_the_measured_requests() -> None:
    one = metrics(0.0, 1.0, 0.1, 2.0)
    llm: Any = ScriptedLLM([one], [one, one, one])
    fields = ThroughputShape(num_prompts=3, input_len=8, output_len=4, range_ratio=0.0, warmup=1, seed=0)
    result = measure_throughput(llm, fields, show_progress=False)
    assert (result.num_requests, result.num_input_tokens, result.num_output_tokens) == (3, 24, 12)
    assert result.total_tokens_per_s == pytest.approx(36 / result.duration_s)
    assert result.e2e_s.samples == [2.0] * 3


def test_random_requests_repeat_and_vary() -> None:
    def make(seed: int, range_ratio: float = 0.0) -> Any:
        return random_requests(20, input_len=10, output_len=6, vocab_size=50, seed=seed, range_ratio=range_ratio)

    assert make(1) == make(1)
    assert make(1) != make(2)
    assert {len(request.prompt_token_ids) for request in make(1)} == {10}
    varied = make(1, 0.5)
    lengths = {len(request.prompt_token_ids) for request in varied}
    assert len(lengths) > 3
    assert min(lengths) >= 5
    assert max(lengths) <= 15
    assert all(3 <= request.output_len <= 9 for request in varied)
    assert all(0 <= token < 50 for request in varied for token in request.prompt_token_ids)
    with pytest.raises(ConfigError, match="range_ratio=1"):
        make(1, 1.0)


def test_summary() -> None:
    summary = summarise([4.0, 1.0, 2.0, 3.0])
    assert (summary.mean, summary.median, summary.min, summary.max) == (2.5, 2.5, 1.0, 4.0)
    assert summary.p95 == pytest.approx(3.85)
    assert summary.p99 == pytest.approx(3.97)
    assert summary.samples == [4.0, 1.0, 2.0, 3.0]
