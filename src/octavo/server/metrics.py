"""/metrics: Prometheus series under the names that existing dashboards read."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from octavo.core.messages import EngineStats, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.core.request import FinishReason
from octavo.server.metric_buckets import (
    ITERATION_TOKENS,
    REQUEST_SECONDS,
    STEP_SECONDS,
    TOKEN_SECONDS,
    TTFT_SECONDS,
    token_buckets,
)
from octavo.server.recent_times import RecentTimes

if TYPE_CHECKING:
    from octavo.engine.info import EngineInfo

ENGINE = "0"
"""There is one engine."""
RECENT_REQUESTS = 512
RECENT_TOKENS = 4096

Metric = TypeVar("Metric", bound=MetricWrapperBase)


@dataclass(slots=True)
class _Times:
    """One open request, on `time.perf_counter`'s clock."""

    begin_s: float
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    last_token_s: dict[int, float] = field(default_factory=dict)
    """Sample → when its newest token came."""


class ServerMetrics:
    """The series of one server, in a registry of its own. Used on the event loop only.

    `observe` sees each step of the engine; `begin` and `end` bracket each request, so that one which
    is aborted leaves nothing behind.
    """

    def __init__(self, model_name: str, info: "EngineInfo") -> None:
        self.registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": ENGINE}
        self._open: dict[str, _Times] = {}
        self._last_stats: EngineStats | None = None
        self.recent_ttft = RecentTimes(RECENT_REQUESTS)
        self.recent_itl = RecentTimes(RECENT_TOKENS)
        self._make_engine_series()
        self._make_request_series(info.max_model_len)
        self._describe_cache(info)

    def begin(self, request_id: str) -> None:
        self._open[request_id] = _Times(time.perf_counter())

    def end(self, request_id: str) -> None:
        self._open.pop(request_id, None)

    def observe(self, batch: OutputBatch, deltas: Sequence[RequestDelta]) -> None:
        """Take in one step."""
        self._observe_stats(batch.stats)
        if batch.stats.num_step_tokens:
            self._step_time.observe(batch.step_s)
        for event in batch.events:
            if event.finish_reason is not None:
                self._success[event.finish_reason].inc()
        now = time.perf_counter()
        for delta in deltas:
            times = self._open.get(delta.request_id)
            if times is not None:
                self._observe_tokens(times, delta, now)
                if delta.is_finished:
                    self._observe_finished(times, delta)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    # ── one step ─────────────────────────────────────────────────────────────────────────────────

    def _observe_stats(self, stats: EngineStats) -> None:
        last, self._last_stats = self._last_stats, stats
        self._running.set(stats.num_running)
        self._waiting.set(stats.num_waiting)
        self._cache_usage.set(stats.num_held_blocks / stats.num_blocks if stats.num_blocks else 0.0)
        for state, count in (
            ("free", stats.num_free_blocks),
            ("cached", stats.num_cached_blocks),
            ("held", stats.num_held_blocks),
        ):
            self._blocks[state].set(count)
        self._preemptions.inc(stats.num_preemptions - (last.num_preemptions if last else 0))
        self._prefix_queries.inc(stats.prefix_cache_queries - (last.prefix_cache_queries if last else 0))
        self._prefix_hits.inc(stats.prefix_cache_hits - (last.prefix_cache_hits if last else 0))
        if stats.num_step_tokens:
            self._iteration_tokens.observe(stats.num_step_tokens)

    def _observe_tokens(self, times: _Times, delta: RequestDelta, now: float) -> None:
        if delta.num_cached_tokens > times.num_cached_tokens:
            self._prompt_tokens_cached.inc(delta.num_cached_tokens - times.num_cached_tokens)
            times.num_cached_tokens = delta.num_cached_tokens
        for piece in delta.outputs:
            if not piece.token_ids:
                continue
            if not times.last_token_s:
                self._ttft.observe(now - times.begin_s)
                self.recent_ttft.add(now - times.begin_s)
                self._prompt_tokens.inc(delta.num_prompt_tokens)
            elif piece.index in times.last_token_s:
                self._itl.observe(now - times.last_token_s[piece.index])
                self.recent_itl.add(now - times.last_token_s[piece.index])
            times.last_token_s[piece.index] = now
            times.num_generated_tokens += len(piece.token_ids)
            self._generation_tokens.inc(len(piece.token_ids))

    def _observe_finished(self, times: _Times, delta: RequestDelta) -> None:
        metrics = delta.metrics
        if metrics is None or delta.error is not None:
            return
        self._request_prompt_tokens.observe(delta.num_prompt_tokens)
        self._request_generation_tokens.observe(times.num_generated_tokens)
        self._e2e.observe(metrics.e2e_s)
        self._queue.observe(max(0.0, metrics.queue_s))
        self._prefill.observe(max(0.0, metrics.ttft_s - metrics.queue_s))
        self._decode.observe(max(0.0, metrics.e2e_s - metrics.ttft_s))
        if metrics.tpot_s > 0.0:
            self._tpot.observe(metrics.tpot_s)

    # ── the series ───────────────────────────────────────────────────────────────────────────────

    def _make_engine_series(self) -> None:
        self._running = self._gauge("vllm:num_requests_running", "Sequences in the running batch.")
        self._waiting = self._gauge("vllm:num_requests_waiting", "Sequences that wait for a seat.")
        self._cache_usage = self._gauge("vllm:kv_cache_usage_perc", "KV blocks in use; 1 is all of them.")
        self._preemptions = self._counter("vllm:num_preemptions", "Requests taken out of the batch for others.")
        self._prefix_queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up.")
        self._prefix_hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens found.")
        self._iteration_tokens = self._histogram(
            "vllm:iteration_tokens_total", "Tokens computed in a step.", ITERATION_TOKENS
        )
        self._step_time = self._histogram("octavo:step_seconds", "Time of a step that computed tokens.", STEP_SECONDS)
        blocks = Gauge("octavo:kv_blocks", "KV blocks by state.", (*self._labels, "state"), registry=self.registry)
        self._blocks = {state: blocks.labels(**self._labels, state=state) for state in ("free", "cached", "held")}

    def _make_request_series(self, max_model_len: int) -> None:
        self._prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens of requests that began to answer.")
        self._prompt_tokens_cached = self._counter("vllm:prompt_tokens_cached", "Those found in the prefix cache.")
        self._generation_tokens = self._counter("vllm:generation_tokens", "Tokens sampled.")
        success = Counter(
            "vllm:request_success",
            "Sequences that ended, by reason.",
            (*self._labels, "finished_reason"),
            registry=self.registry,
        )
        self._success = {
            reason: success.labels(**self._labels, finished_reason=reason.value) for reason in FinishReason
        }
        self._ttft = self._histogram("vllm:time_to_first_token_seconds", "Arrival to first token.", TTFT_SECONDS)
        self._itl = self._histogram("vllm:inter_token_latency_seconds", "Token to next token.", TOKEN_SECONDS)
        self._tpot = self._histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time a token after the first.", TOKEN_SECONDS
        )
        self._e2e = self._histogram("vllm:e2e_request_latency_seconds", "Arrival to end.", REQUEST_SECONDS)
        self._queue = self._histogram("vllm:request_queue_time_seconds", "Arrival to first step.", REQUEST_SECONDS)
        self._prefill = self._histogram(
            "vllm:request_prefill_time_seconds", "First step to first token.", REQUEST_SECONDS
        )
        self._decode = self._histogram("vllm:request_decode_time_seconds", "First token to end.", REQUEST_SECONDS)
        tokens = token_buckets(max_model_len)
        self._request_prompt_tokens = self._histogram("vllm:request_prompt_tokens", "Prompt tokens a request.", tokens)
        self._request_generation_tokens = self._histogram(
            "vllm:request_generation_tokens", "Tokens sampled a request.", tokens
        )

    def _describe_cache(self, info: "EngineInfo") -> None:
        facts = {
            "block_size": str(info.block_size),
            "num_gpu_blocks": str(info.num_blocks),
            "cache_dtype": str(info.options.get("kv_cache_dtype")),
            "enable_prefix_caching": str(info.options.get("enable_prefix_caching")),
        }
        gauge = Gauge(
            "vllm:cache_config_info",
            "The KV cache's configuration, in labels.",
            (*self._labels, *facts),
            registry=self.registry,
        )
        gauge.labels(**self._labels, **facts).set(1)
        self._blocks["free"].set(info.num_blocks)

    def _gauge(self, name: str, text: str) -> Gauge:
        return self._labelled(Gauge(name, text, tuple(self._labels), registry=self.registry))

    def _counter(self, name: str, text: str) -> Counter:
        return self._labelled(Counter(name, text, tuple(self._labels), registry=self.registry))

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return self._labelled(
            Histogram(name, text, tuple(self._labels), registry=self.registry, buckets=tuple(buckets))
        )

    def _labelled(self, metric: Metric) -> Metric:
        return metric.labels(**self._labels)
