"""/metrics: names, labels and counts."""

import asyncio
import math
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from server.conftest import MODEL, InProcess, make_server_context
from server.fake_engine import REPLY, FakeEngine

from octavo import AsyncEngine
from octavo.config import EngineConfig
from octavo.engine.liveness import EngineState
from octavo.server.app import build_app
from octavo.server.metric_buckets import token_buckets

LABELS = {"model_name": MODEL, "engine": "0"}
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
COUNTERS = (
    "prompt_tokens",
    "prompt_tokens_cached",
    "generation_tokens",
    "num_preemptions",
    "prefix_cache_queries",
    "prefix_cache_hits",
)
OWN = {
    "octavo:kv_blocks",
    "octavo:step_seconds_bucket",
    "octavo:event_loop_lag_seconds_bucket",
    "octavo:event_loop_lag_max_seconds",
    "octavo:tokenizer_queue",
    "octavo:engine_silence_seconds",
    "octavo:engine_up",
}
HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
)


def samples(server: InProcess) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return parsed(server.get("/metrics"))


def parsed(reply: httpx.Response) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(server: InProcess, name: str, **labels: str) -> float:
    return samples(server)[name, tuple(sorted({**LABELS, **labels}.items()))]


def test_every_series_is_there_before_the_first_request(server: InProcess) -> None:
    found = {name for name, _ in samples(server)}
    expected = {f"vllm:{name}" for name in GAUGES}
    expected |= {f"vllm:{name}_total" for name in COUNTERS}
    expected |= {f"vllm:{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    expected |= {"vllm:request_success_total", "vllm:cache_config_info"}
    assert expected <= found
    assert expected == {name for name in found if name.startswith("vllm:") and not name.endswith("_created")}
    for name, pairs in samples(server):
        if name.startswith(("vllm:", "octavo:")):
            assert dict(pairs).items() >= LABELS.items()


def test_what_the_server_keeps_of_itself(server: InProcess) -> None:
    found = {name for name, _ in samples(server)}
    assert found >= OWN
    for prefix in ("process", "octavo_engine_process"):
        assert samples(server)[f"{prefix}_resident_memory_bytes", ()] > 1e6
        assert samples(server)[f"{prefix}_open_fds", ()] > 2


def test_replies_are_counted_by_status(server: InProcess) -> None:
    server.complete("Hi", max_tokens=1)
    server.get("/nowhere")
    server.get("/nowhere")
    assert value(server, "octavo:http_responses_total", status="404") == 2
    assert value(server, "octavo:http_responses_total", status="200") >= 1


def test_refusals_and_failures_are_counted_by_code_in_streams_too(server: InProcess) -> None:
    server.get("/nowhere")
    server.engine.fails_after = 3
    for is_streamed in (True, False):
        server.post("/v1/completions", {"model": MODEL, "prompt": "Hi", "stream": is_streamed})
    assert value(server, "octavo:request_errors_total", code="not_found") == 1
    assert value(server, "octavo:request_errors_total", code="internal_error") == 2
    assert value(server, "octavo:http_responses_total", status="200") >= 1, "the stream had begun"


def test_all_blocks_are_free_before_the_first_step(server: InProcess) -> None:
    assert [value(server, "octavo:kv_blocks", state=state) for state in ("free", "cached", "held")] == [64, 0, 0]


def test_the_engine_is_up_until_it_is_not(server: InProcess) -> None:
    assert value(server, "octavo:engine_up") == 1
    for state in (EngineState.STALLED, EngineState.DEAD):
        server.engine.state = state
        assert value(server, "octavo:engine_up") == 0
    server.engine.texts.num_jobs = 3
    assert value(server, "octavo:tokenizer_queue") == 3


def test_steps_are_timed(server: InProcess) -> None:
    server.complete("Hi", max_tokens=3)
    assert value(server, "octavo:step_seconds_count") == 3


def test_counts_of_two_requests(server: InProcess) -> None:
    server.engine.num_cached_tokens = 2
    server.complete("Hi", n=2)
    server.complete("Hi", max_tokens=1)
    num_tokens = len(REPLY.encode()) + 1
    assert value(server, "vllm:prompt_tokens_total") == 6
    assert value(server, "vllm:prompt_tokens_cached_total") == 4
    assert value(server, "vllm:generation_tokens_total") == 2 * num_tokens + 1
    assert value(server, "vllm:request_success_total", finished_reason="stop") == 2
    assert value(server, "vllm:request_success_total", finished_reason="length") == 1
    assert value(server, "vllm:request_success_total", finished_reason="error") == 0
    assert value(server, "vllm:time_to_first_token_seconds_count") == 2
    assert value(server, "vllm:inter_token_latency_seconds_count") == 2 * (num_tokens - 1)
    assert value(server, "vllm:request_time_per_output_token_seconds_count") == 1
    assert value(server, "vllm:e2e_request_latency_seconds_count") == 2
    assert value(server, "vllm:request_prompt_tokens_sum") == 6
    assert value(server, "vllm:request_generation_tokens_sum") == 2 * num_tokens + 1
    num_steps = num_tokens + 1
    assert value(server, "vllm:iteration_tokens_total_count") == num_steps
    assert value(server, "vllm:prefix_cache_queries_total") == 10 * num_steps
    assert value(server, "vllm:prefix_cache_hits_total") == num_steps
    assert value(server, "vllm:num_requests_running") == 1  # as of the last step
    assert math.isclose(value(server, "vllm:kv_cache_usage_perc"), 1 / 64)
    assert value(server, "octavo:kv_blocks", state="free") == 63


def test_counts_of_the_real_engine(tiny_with_tokenizer: Path) -> None:
    """Every series of a request moves with what an engine's process sends, ids and times included."""

    async def scrape() -> httpx.Response:
        config = EngineConfig(model=str(tiny_with_tokenizer), kv_cache_memory="1M", max_model_len=128, threads=1)
        engine = await AsyncEngine.start(config)
        try:
            app = build_app(make_server_context(engine, served_model_name=(MODEL,)))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                for num_samples in (2, 1):
                    body = {"model": MODEL, "prompt": list(range(40)), "max_tokens": 5, "ignore_eos": True}
                    reply = await client.post("/v1/completions", json={**body, "n": num_samples})
                    assert reply.status_code == 200, reply.text
                return await client.get("/metrics")
        finally:
            await engine.shutdown()

    found = {name: value for (name, labels), value in parsed(asyncio.run(asyncio.wait_for(scrape(), 60))).items()}
    assert found["vllm:prompt_tokens_total"] == 80
    assert 0 < found["vllm:prompt_tokens_cached_total"] < 80
    assert found["vllm:generation_tokens_total"] == 15
    assert found["vllm:inter_token_latency_seconds_count"] == 12
    for name in HISTOGRAMS[:1] + HISTOGRAMS[2:-1]:
        assert found[f"vllm:{name}_count"] == 2, name
        assert found[f"vllm:{name}_sum"] > 0, name
    assert found["vllm:request_generation_tokens_sum"] == 15


def test_a_request_that_fails_is_counted_as_error_and_leaves_nothing(server: InProcess) -> None:
    server.engine.fails_after = 3
    server.post("/v1/completions", {"model": MODEL, "prompt": "Hi"})
    assert value(server, "vllm:request_success_total", finished_reason="error") == 1
    assert value(server, "vllm:e2e_request_latency_seconds_count") == 0
    assert not server.context.metrics._open


def test_cache_configuration_is_in_labels(server: InProcess) -> None:
    labels = {"block_size": "16", "num_gpu_blocks": "64", "cache_dtype": "fp32", "enable_prefix_caching": "True"}
    assert value(server, "vllm:cache_config_info", **labels) == 1


def test_two_servers_do_not_share_series() -> None:
    first, second = InProcess(FakeEngine()), InProcess(FakeEngine())
    first.complete("Hi", max_tokens=1)
    assert value(second, "vllm:generation_tokens_total") == 0


def test_token_buckets() -> None:
    assert token_buckets(100) == [1, 2, 5, 10, 20, 50, 100]
    assert token_buckets(4) == [1, 2]
