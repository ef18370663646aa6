"""How long one batch takes: every request starts at once, with prompts and outputs of one length.

With batch B, input length I, output length O, and times from the moment the first request is queued,

    prefill_tokens_per_s = B·I / t_first        t_first: every request has its first token
    decode_tokens_per_s  = B·(O − 1) / (t_end − t_first)
    ttft_s, tpot_s       = means over the batch

Prompts that do not fit one step are computed in several. Requests whose prompt came first then decode
before t_first, so both rates are those of a mixture: `num_prefill_steps` says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.bench.statistics import Summary, summarise
from octavo.bench.workload import BenchRequest, random_requests
from octavo.core.errors import EngineDeadError
from octavo.core.outputs import RequestMetrics
from octavo.engine.llm import LLM


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyShape:
    input_len: int
    output_len: int
    batch_size: int
    warmup: int
    iterations: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Medians over the iterations are the result; the spread is in each summary."""

    prefill_tokens_per_s: Summary
    decode_tokens_per_s: Summary | None
    """None where no token follows the first."""
    ttft_s: Summary
    tpot_s: Summary | None
    total_s: Summary
    num_prefill_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Iteration:
    first_s: float
    total_s: float
    ttft_s: float
    tpot_s: float


def measure_latency(
    llm: LLM, shape: LatencyShape, on_iteration: Callable[[int], None] = lambda number: None
) -> LatencyResult:
    """Run the batch `warmup` times unmeasured, then `iterations` times; the same prompts each time."""
    requests = random_requests(
        shape.batch_size,
        input_len=shape.input_len,
        output_len=shape.output_len,
        vocab_size=llm.info.vocab_size,
        seed=shape.seed,
    )
    runs = []
    for number in range(shape.warmup + shape.iterations):
        run = _run(llm, requests)
        on_iteration(number + 1)
        if number >= shape.warmup:
            runs.append(run)
    num_prompt_tokens = shape.batch_size * shape.input_len
    num_decoded = shape.batch_size * (shape.output_len - 1)
    return LatencyResult(
        prefill_tokens_per_s=summarise([num_prompt_tokens / run.first_s for run in runs]),
        decode_tokens_per_s=_summary_if(
            num_decoded > 0, [num_decoded / (run.total_s - run.first_s) for run in runs if num_decoded]
        ),
        ttft_s=summarise([run.ttft_s for run in runs]),
        tpot_s=_summary_if(num_decoded > 0, [run.tpot_s for run in runs]),
        total_s=summarise([run.total_s for run in runs]),
        num_prefill_steps=math.ceil(num_prompt_tokens / llm.info.options["max_num_batched_tokens"]),
    )


def _summary_if(is_measured: bool, samples: Sequence[float]) -> Summary | None:
    return summarise(samples) if is_measured else None


def _run(llm: LLM, requests: Sequence[BenchRequest]) -> _Iteration:
    metrics = run_requests(llm, requests, show_progress=False)
    start = min(each.arrival_s for each in metrics)
    return _Iteration(
        first_s=max(each.arrival_s + each.ttft_s for each in metrics) - start,
        total_s=max(each.arrival_s + each.e2e_s for each in metrics) - start,
        ttft_s=sum(each.ttft_s for each in metrics) / len(metrics),
        tpot_s=sum(each.tpot_s for each in metrics) / len(metrics),
    )


def run_requests(llm: LLM, requests: Sequence[BenchRequest], *, show_progress: bool | None) -> list[RequestMetrics]:
    """Run all at once and check that each gave what was asked of it. Raises `EngineDeadError` if one did not."""
    outputs = llm.generate(
        [request.prompt_token_ids for request in requests],
        [request.params for request in requests],
        show_progress=show_progress,
    )
    metrics = []
    for request, output in zip(requests, outputs, strict=True):
        num_tokens = len(output.outputs[0].token_ids)
        if output.error is not None or output.metrics is None or num_tokens != request.output_len:
            reason = output.error or f"{num_tokens} of {request.output_len} tokens came"
            raise EngineDeadError(f"request {output.request_id} failed, so nothing was measured: {reason}")
        metrics.append(output.metrics)
    return metrics
