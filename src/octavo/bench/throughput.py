"""How much work gets done: many requests queued at once, the scheduler left to itself."""

import time
from dataclasses import dataclass

from octavo.bench.latency import run_requests
from octavo.bench.statistics import Summary, summarise
from octavo.bench.workload import random_requests
from octavo.engine.llm import LLM


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputShape:
    num_prompts: int
    input_len: int
    output_len: int
    range_ratio: float
    warmup: int
    """Requests run before, unmeasured."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputResult:
    """Rates over the whole duration; times of single requests, which include waiting in the queue."""

    num_requests: int
    duration_s: float
    num_input_tokens: int
    num_output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: Summary
    tpot_s: Summary | None
    """Of requests with more than one output token."""
    e2e_s: Summary


def measure_throughput(llm: LLM, shape: ThroughputShape, *, show_progress: bool | None = None) -> ThroughputResult:
    """Run all requests at once."""
    requests = random_requests(
        shape.warmup + shape.num_prompts,
        input_len=shape.input_len,
        output_len=shape.output_len,
        vocab_size=llm.info.vocab_size,
        seed=shape.seed,
        range_ratio=shape.range_ratio,
    )
    warmup, requests = requests[: shape.warmup], requests[shape.warmup :]
    if warmup:
        run_requests(llm, warmup, show_progress=False)
    start = time.perf_counter()
    metrics = run_requests(llm, requests, show_progress=show_progress)
    duration_s = time.perf_counter() - start
    num_input_tokens = sum(len(request.prompt_token_ids) for request in requests)
    num_output_tokens = sum(request.output_len for request in requests)
    tpots = [each.tpot_s for each, request in zip(metrics, requests, strict=True) if request.output_len > 1]
    return ThroughputResult(
        num_requests=len(requests),
        duration_s=duration_s,
        num_input_tokens=num_input_tokens,
        num_output_tokens=num_output_tokens,
        requests_per_s=len(requests) / duration_s,
        output_tokens_per_s=num_output_tokens / duration_s,
        total_tokens_per_s=(num_input_tokens + num_output_tokens) / duration_s,
        ttft_s=summarise([each.ttft_s for each in metrics]),
        tpot_s=summarise(tpots) if tpots else None,
        e2e_s=summarise([each.e2e_s for each in metrics]),
    )
