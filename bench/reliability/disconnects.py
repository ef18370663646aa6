"""Figure 4: clients that go away while they wait, in their prompt, between tokens and in a stream leave no block."""

import asyncio
import operator
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bodies import words
from client import COMPLETIONS, Client, serving
from finding import Effort, Finding, milliseconds

SEATS = 4
CHUNK = 64
"""Tokens a step: a long prompt takes many, so that one can be cut in its midst."""
GRACE_S = 0.1
_LONG_PROMPT = 500
"""Words, and so at least as many tokens."""
_NUM_COMPUTED = "vllm:iteration_tokens_total_sum"
_LIMIT_S = 30.0
Close = Callable[[], Awaitable[None]]


async def _begun(client: Client, body: dict[str, Any], has_begun: Awaitable[object]) -> Close:
    """A request whose connection may be closed once `has_begun`."""
    request = asyncio.create_task(client.post(COMPLETIONS, body))
    await has_begun

    async def close() -> None:
        request.cancel()
        await asyncio.wait({request})

    return close


async def _begun_stream(client: Client, body: dict[str, Any], num_chunks: int) -> Close:
    stream = client.stream(COMPLETIONS, body)
    for _ in range(num_chunks):
        await anext(stream)
    return stream.aclose


async def _excess_s(client: Client, close: Close, name: str) -> float:
    """From the moment when a connection is closed until the series is 0, less the mean time of a step meanwhile."""
    before = await client.scrape()
    start_s = time.monotonic()
    await close()
    after = await client.until(name, 0.0, _LIMIT_S)
    waited_s = time.monotonic() - start_s
    steps_s, num_steps = (
        after.value(series) - before.value(series)
        for series in ("octavo:step_seconds_sum", "octavo:step_seconds_count")
    )
    return waited_s - steps_s / max(1.0, num_steps)


def _long(rng: random.Random, **fields: Any) -> dict[str, Any]:
    return {"prompt": words(rng, 5), "max_tokens": 300, "ignore_eos": True, "seed": 1, **fields}


async def _running(client: Client, rng: random.Random, count: int) -> dict[str, list[float]]:
    """Those that have a seat: each alone, so that its blocks are all there are."""
    excess: dict[str, list[float]] = {"prefill": [], "decode": [], "streaming": []}
    for number in range(count):
        before = await client.scrape()
        kind = list(excess)[number % 3]
        if kind == "prefill":
            is_running = client.until("vllm:num_requests_running", 1.0, _LIMIT_S)
            close = await _begun(client, _long(rng, prompt=words(rng, _LONG_PROMPT)), is_running)
            await asyncio.sleep(rng.uniform(0.0, 0.05))
        elif kind == "decode":
            num_steps = before.value("octavo:step_seconds_count") + rng.randrange(2, 12)  # the first is its prompt's
            has_tokens = client.until("octavo:step_seconds_count", num_steps, _LIMIT_S, operator.ge)
            close = await _begun(client, _long(rng), has_tokens)
        else:
            close = await _begun_stream(client, _long(rng), rng.randrange(1, 12))
        excess_s = await _excess_s(client, close, "vllm:kv_cache_usage_perc")
        num_computed = await client.metric(_NUM_COMPUTED) - before.value(_NUM_COMPUTED)
        if kind == "prefill" and num_computed >= _LONG_PROMPT:
            kind = "decode"  # its prompt ended before it was cut
        excess[kind].append(excess_s)
    return excess


async def _queued(client: Client, rng: random.Random, count: int) -> list[float]:
    """Those that wait behind streams which hold every seat."""
    excess: list[float] = []
    while len(excess) < count:
        streams = [client.stream(COMPLETIONS, _long(rng)) for _ in range(SEATS)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        for _ in range(min(25, count - len(excess))):
            is_waiting = client.until("vllm:num_requests_waiting", 1.0, _LIMIT_S)
            close = await _begun(client, _long(rng), is_waiting)
            excess.append(await _excess_s(client, close, "vllm:num_requests_waiting"))
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
            last = await client.scrape()
        blocks, num_running = last.blocks(), last.value("vllm:num_requests_running")
        is_conserved = blocks["held"] == num_running == 0 and sum(blocks.values()) == total
        return Finding(
            asked="1,000 disconnects (queued, prefill, decode, streaming): blocks free in a step + 100 ms, none leaked",
            measured={
                "disconnects": sum(map(len, excess.values())),
                "beyond_a_step_ms": {kind: milliseconds(times) for kind, times in excess.items()},
                "blocks_leaked": total - blocks["free"] - blocks["cached"],
            },
            is_met=is_conserved and all(excess.values()) and max(map(max, excess.values())) <= GRACE_S,
        )

    return asyncio.run(main())
