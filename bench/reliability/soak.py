"""Figure 5: a soak of mixed clients, a tenth of which go away: no error, no leak of blocks, memory or files."""

import asyncio
import random
import statistics
import time
from collections import Counter
from typing import Any, NamedTuple

import httpx
from bodies import SCHEMA, TOOL, chat, mixed_completion, words
from client import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Client, num_files, resident_bytes, serving
from finding import Effort, Finding

NUM_CLIENTS = 8
ABORT_SHARE = 0.1
SAMPLE_S = 5.0
WARM_UP_SHARE = 0.25
MAX_SLOPE_MIB_PER_H = 2.0


class _Request(NamedTuple):
    path: str
    body: dict[str, Any]
    expected: int = 200


def _request(rng: random.Random) -> _Request:
    kind = rng.randrange(10)
    if kind < 3:
        return _Request(COMPLETIONS, mixed_completion(rng, ["Once upon a time there was a house by the sea. "], 48))
    if kind == 3:
        return _Request(CHAT, chat(rng, tools=[TOOL], tool_choice="required"))
    if kind == 4:
        shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        return _Request(CHAT, chat(rng, response_format=shape))
    if kind == 5:
        return _Request(CHAT, chat(rng, temperature=-1), expected=400)
    if kind == 6:
        return _Request(COMPLETIONS, {"prompt": words(rng, 400), "max_tokens": 4})
    if kind == 7:
        return _Request(RESPONSES, {"input": words(rng, 20), "max_output_tokens": rng.randrange(1, 48)})
    if kind == 8:
        messages = [{"role": "user", "content": words(rng, 20)}]
        return _Request(MESSAGES, {"messages": messages, "max_tokens": rng.randrange(1, 48)})
    return _Request(CHAT, chat(rng, n=2, logprobs=True, top_logprobs=2))


async def _one(client: Client, rng: random.Random, seen: Counter[str]) -> None:
    request = _request(rng)
    send = _drain if rng.random() < 0.5 else _ask
    call = asyncio.create_task(send(client, request))
    if rng.random() < ABORT_SHARE:
        done, _ = await asyncio.wait({call}, timeout=rng.uniform(0.0, 0.5))
        if not done:
            call.cancel()
            await asyncio.wait({call})
            seen["aborted"] += 1
            return
    seen[await call] += 1


async def _ask(client: Client, request: _Request) -> str:
    return _outcome(request, await client.post(request.path, request.body))


async def _drain(client: Client, request: _Request) -> str:
    try:
        async for chunk in client.stream(request.path, request.body):
            if chunk.get("error"):
                return f"stream: {chunk['error']}"
    except httpx.HTTPStatusError as error:
        return _outcome(request, error.response)
    except (httpx.TransportError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "answered" if request.expected == 200 else f"a stream in answer to {request.body}"


def _outcome(request: _Request, reply: httpx.Response) -> str:
    return "answered" if reply.status_code == request.expected else f"status {reply.status_code}: {reply.text[:200]}"


def slope_per_h(samples: list[tuple[float, float]]) -> float:
    """Of the straight line closest to (seconds, value)."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*samples, strict=True)).slope * 3600


def measure(effort: Effort) -> Finding:
    duration_s = effort.soak_minutes * 60

    async def main() -> Finding:
        seen: Counter[str] = Counter()
        async with serving() as client:
            total = await client.num_blocks()
            pids = {"server": client.served.process.pid, "engine": client.served.engine_pid()}
            memory: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
            files: dict[str, list[int]] = {name: [] for name in pids}
            start_s = time.monotonic()

            async def act(seed: int) -> None:
                rng = random.Random(seed)
                while time.monotonic() - start_s < duration_s:
                    await _one(client, rng, seen)

            async def sample() -> None:
                while (at_s := time.monotonic() - start_s) < duration_s:
                    for name, pid in pids.items():
                        if at_s >= WARM_UP_SHARE * duration_s:
                            memory[name].append((at_s, resident_bytes(pid) / 2**20))
                            files[name].append(num_files(pid))
                    await asyncio.sleep(min(SAMPLE_S, duration_s / 20))

            await asyncio.gather(sample(), *(act(seed) for seed in range(NUM_CLIENTS)))
            await client.until("vllm:kv_cache_usage_perc", 0.0, 30.0)
            blocks = await client.blocks()
        slopes = {name: round(slope_per_h(samples), 2) for name, samples in memory.items()}
        growth = {name: statistics.median(each[-5:]) - statistics.median(each[:5]) for name, each in files.items()}
        delta = total - blocks["free"] - blocks["cached"]
        errors = {what: count for what, count in seen.items() if what not in ("answered", "aborted")}
        return Finding(
            asked="soak of mixed clients, 10% aborts: no unexpected error, block delta 0, RSS slope ≤ 2 MiB/h after "
            "warm-up, no growth of open files",
            measured={
                "minutes": effort.soak_minutes,
                "answered": seen["answered"],
                "aborted": seen["aborted"],
                "unexpected_errors": errors,
                "blocks_leaked": delta,
                "rss_mib_per_h": slopes,
                "rss_mib_at_the_end": {name: round(samples[-1][1], 1) for name, samples in memory.items()},
                "files_grown": growth,
            },
            is_met=not errors
            and delta == 0
            and max(slopes.values()) <= MAX_SLOPE_MIB_PER_H
            and max(growth.values()) <= 0,
        )

    return asyncio.run(main())
