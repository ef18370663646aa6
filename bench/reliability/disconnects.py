"""Figure 4: clients that go away while they wait, in their prompt, between tokens and in a stream leave no block."""

import asyncio
import random
from typing import Any

from bodies import words
from client import COMPLETIONS, Client, serving
from finding import Effort, Finding, percentile

SEATS = 4
CHUNK = 64
"""Tokens a step: a long prompt takes many, so that one can be cut in its midst."""
GRACE_S = 0.1
_LIMIT_S = 30.0


async def _cut(client: Client, body: dict[str, Any], has_begun: Any) -> None:
    """Send a request, and close its connection once `has_begun` returns."""
    request = asyncio.create_task(client.post(COMPLETIONS, body))
    await has_begun()
    request.cancel()
    await asyncio.wait({request})


async def _cut_stream(client: Client, body: dict[str, Any], num_chunks: int) -> None:
    stream = client.stream(COMPLETIONS, body)
    for _ in range(num_chunks):
        await anext(stream)
    await stream.aclose()


async def _excess_s(client: Client, name: str, value: float) -> float:
    """Until the series has the value, less the mean time of a step meanwhile."""
    sum_s, count = await _steps(client)
    waited_s = await client.until(name, value, _LIMIT_S)
    sum_after_s, count_after = await _steps(client)
    return waited_s - (sum_after_s - sum_s) / max(1.0, count_after - count)


async def _steps(client: Client) -> tuple[float, float]:
    return await client.metric("octavo:step_seconds_sum"), await client.metric("octavo:step_seconds_count")


def _long(rng: random.Random, **fields: Any) -> dict[str, Any]:
    return {"prompt": words(rng, 5), "max_tokens": 300, "ignore_eos": True, "seed": 1, **fields}


async def _running(client: Client, rng: random.Random, count: int) -> dict[str, list[float]]:
    """Those that have a seat: each alone, so that its blocks are all there are."""
    excess: dict[str, list[float]] = {"prefill": [], "decode": [], "streaming": []}

    async def is_running() -> None:
        await client.until("vllm:num_requests_running", 1.0, _LIMIT_S)
        await asyncio.sleep(rng.uniform(0.0, 0.05))

    for number in range(count):
        kind = list(excess)[number % 3]
        if kind == "streaming":
            await _cut_stream(client, _long(rng), rng.randrange(1, 12))
        else:
            await _cut(client, _long(rng, prompt=words(rng, 500 if kind == "prefill" else 5)), is_running)
        excess[kind].append(await _excess_s(client, "vllm:kv_cache_usage_perc", 0.0))
    return excess


async def _queued(client: Client, rng: random.Random, count: int) -> list[float]:
    """Those that wait behind streams which hold every seat."""
    excess: list[float] = []
    while len(excess) < count:
        streams = [client.stream(COMPLETIONS, _long(rng)) for _ in range(SEATS)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        for _ in range(min(25, count - len(excess))):
            await _cut(client, _long(rng), lambda: client.until("vllm:num_requests_waiting", 1.0, _LIMIT_S))
            excess.append(await _excess_s(client, "vllm:num_requests_waiting", 0.0))
        for stream in streams:
            await stream.aclose()
        await client.until("vllm:kv_cache_usage_perc", 0.0, _LIMIT_S)
    return excess


def measure(effort: Effort) -> Finding:
    async def main() -> Finding:
        rng = random.Random(7)
        options = ("--max-num-seqs", str(SEATS), "--max-num-batched-tokens", str(CHUNK), "--no-enable-prefix-caching")
        async with serving(*options) as client:
            total = await client.num_blocks()
            excess = await _running(client, rng, effort.of(750, 6))
            excess["queued"] = await _queued(client, rng, effort.of(250, 2))
            blocks = await client.blocks()
            running = await client.metric("vllm:num_requests_running")
        is_conserved = blocks["held"] == running == 0 and sum(blocks.values()) == total
        return Finding(
            asked="1,000 disconnects (queued, prefill, decode, streaming): blocks free in a step + 100 ms, none leaked",
            measured={
                "disconnects": sum(map(len, excess.values())),
                "beyond_a_step_max_ms": {kind: round(max(times) * 1e3, 1) for kind, times in excess.items()},
                "beyond_a_step_p99_ms": {kind: round(percentile(times, 99) * 1e3, 1) for kind, times in excess.items()},
                "blocks_leaked": total - blocks["free"] - blocks["cached"],
            },
            is_met=is_conserved and max(max(times) for times in excess.values()) <= GRACE_S,
        )

    return asyncio.run(main())
