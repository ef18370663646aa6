"""Figure 13: /health under the worst legal load, the event loop's lag, and what HTTP costs beside the engine alone."""

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import httpx
from bodies import words
from client import COMPLETIONS, Client, serving
from finding import Effort, Finding, milliseconds

from octavo.bench.statistics import summarise
from octavo.bench.workload import random_requests
from octavo.server.event_loop_probe import INTERVAL_S

MAX_HEALTH_S, MAX_LAG_S, MIN_THROUGHPUT = 0.1, 0.05, 0.9
MIN_SAMPLES = 1000
NUM_CLIENTS, INPUT_LEN = 32, 128
_LARGE_BYTES = 5_000_000
_RULE_CHARS = 20_000
"""A rule of so many signs is few tokens: a text that begins with it is not refused by its beginning, but tokenised whole."""
_ENGINE = ("--kv-cache-memory", "512M", "--max-model-len", "1024", "--threads", "2", "--no-enable-prefix-caching")


async def _lag_s(client: Client) -> float:
    """The longest that it may have been since it was last asked for: a block that begins with the probe's sleep is seen less."""
    return await client.metric("octavo:event_loop_lag_max_seconds") + INTERVAL_S


async def _stream_all(client: Client, output_len: int) -> float:
    """Output tokens a second of as many streams at once as there are clients."""
    vocabulary = 49_152
    work = random_requests(NUM_CLIENTS, input_len=INPUT_LEN, output_len=output_len, vocab_size=vocabulary, seed=0)

    async def one(prompt: list[int]) -> None:
        body = {"prompt": prompt, "max_tokens": output_len, "ignore_eos": True, "temperature": 0}
        async for _ in client.stream(COMPLETIONS, body):
            pass

    start_s = time.monotonic()
    await asyncio.gather(*(one(request.prompt_token_ids) for request in work))
    return NUM_CLIENTS * output_len / (time.monotonic() - start_s)


async def _health_s(client: Client, load: Awaitable[None]) -> list[float]:
    """How long each /health took while the load ran."""
    probe = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("health_probe.py")),
        client.served.url.removeprefix("http://"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    await load
    said, _ = await probe.communicate(b"")  # the end of its input ends it
    return json.loads(said)


async def _large(client: Client) -> None:
    prompt = "=" * _RULE_CHARS + "the old house by the sea " * (_LARGE_BYTES // 25)
    reply = await client.http.post("/tokenize", json={"prompt": prompt})
    if reply.raise_for_status().json()["count"] < _LARGE_BYTES // 25:
        raise RuntimeError("the prompt was not tokenised whole")


async def _answered(request: Awaitable[httpx.Response], status: int = 200) -> None:
    reply = await request
    if reply.status_code != status:
        raise RuntimeError(f"status {reply.status_code}, not {status}: {reply.text[:200]}")


async def _worst(client: Client, rounds: int) -> None:
    """Large bodies, long prompts, bodies of many values, many streams, refused grammars: all at once."""
    bomb = {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{count}}}"} for count in range(1, 40)]}
    many = [0] * 1_000_000
    for number in range(rounds):
        rng = random.Random(number)
        await asyncio.gather(
            _large(client),
            _answered(client.http.post("/detokenize", json={"tokens": many})),
            _answered(client.post(COMPLETIONS, {"prompt": "x", "structured_outputs": {"json": bomb}}), 400),
            *(_answered(client.post(COMPLETIONS, {"prompt": words(rng, 500), "max_tokens": 4})) for _ in range(16)),
            _stream_all(client, 16),
        )


def _engine_alone(output_len: int) -> float:
    """Output tokens a second by `octavo bench throughput`."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "throughput.json"
        lengths = ["--num-prompts", NUM_CLIENTS, "--input-len", INPUT_LEN, "--output-len", output_len]
        command = [sys.executable, "-m", "octavo.cli", "bench", "throughput", "--model", "smollm2", *map(str, lengths)]
        subprocess.run([*command, *_ENGINE, "--json", str(path)], check=True, capture_output=True)
        return float(json.loads(path.read_text())["output_tokens_per_s"])


async def _in_turn(client: Client, output_len: int, rounds: int) -> tuple[list[float], list[float], float]:
    """Tokens a second over HTTP and by the engine alone, in turn, so that a change of the machine's speed meets both."""
    rates, alone, lag_s = [], [], 0.0
    for _ in range(rounds):
        await _lag_s(client)
        rates.append(await _stream_all(client, output_len))
        lag_s = max(lag_s, await _lag_s(client))
        alone.append(await asyncio.to_thread(_engine_alone, output_len))
    return rates, alone, lag_s


def measure(effort: Effort) -> Finding:
    async def main() -> Finding:
        async with serving(*_ENGINE) as client:
            await _stream_all(client, 8)
            lags_s = []
            for _ in range(3):
                await _lag_s(client)
                await _large(client)
                lags_s.append(await _lag_s(client))
            rates, alone, lag_stream_s = await _in_turn(client, effort.of(128, 16), effort.of(5))
            await _lag_s(client)
            health_s = await _health_s(client, _worst(client, effort.of(20)))
            lag_worst_s = await _lag_s(client)
        throughput = summarise(rates).median / summarise(alone).median
        return Finding(
            asked="/health P99 ≤ 100 ms under the worst legal load; event loop lag ≤ 50 ms while 5 MB are tokenised and "
            "while 32 clients stream; their throughput ≥ 90% of the engine's alone",
            measured={
                "health_ms": milliseconds(health_s),
                "probe_interval_ms": INTERVAL_S * 1e3,  # in each lag, which is thus the most that it may have been
                "lag_while_tokenising_ms": [round(lag_s * 1e3, 1) for lag_s in lags_s],
                "lag_while_streaming_ms": round(lag_stream_s * 1e3, 1),
                "lag_under_the_worst_load_ms": round(lag_worst_s * 1e3, 1),
                "http_tokens_per_s": [round(rate, 1) for rate in rates],
                "engine_tokens_per_s": [round(rate, 1) for rate in alone],
                "http_of_engine": round(throughput, 3),
            },
            is_met=len(health_s) >= effort.of(MIN_SAMPLES)
            and summarise(health_s).p99 <= MAX_HEALTH_S
            and max(*lags_s, lag_stream_s) <= MAX_LAG_S
            and throughput >= MIN_THROUGHPUT,
        )

    return asyncio.run(main())
