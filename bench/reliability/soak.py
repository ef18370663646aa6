"""Figure 5: a soak of mixed clients, a tenth of which go away: no error, no leak of blocks, memory or files."""

import asyncio
import random
import statistics
import time
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
from bodies import SCHEMA, TOOL, chat, mixed_completion, words
from client import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Client, num_files, resident_bytes, serving
from finding import Effort, Finding
from server.served import Served

NUM_CLIENTS = 8
ABORT_SHARE = 0.1
SAMPLE_S = 5.0
WARM_UP_SHARE = 0.25
MIN_MINUTES = 30.0
NUM_PARTS = 10
MAX_SLOPE_MIB_PER_H = 2.0
_PROCESSES = {"server", "process", "grammar_check"}


class _Request(NamedTuple):
    path: str
    body: dict[str, Any]
    expected: int = 200
    may_be_left: bool = True


def _request(rng: random.Random) -> _Request:
    kind = rng.randrange(10)
    if kind < 3:
        return _Request(COMPLETIONS, mixed_completion(rng, ["Once upon a time there was a house by the sea. "], 48))
    if kind == 3:
        return _Request(CHAT, chat(rng, tools=[TOOL], tool_choice="required"))
    if kind == 4:
        schema = {
            **SCHEMA,
            "title": words(rng, 8),
        }  # a new one each, so that it is checked; a check that is left ends its process
        shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        return _Request(CHAT, chat(rng, response_format=shape), may_be_left=False)
    if kind == 5:
        return _Request(CHAT, chat(rng, temperature=-1), expected=400)
    if kind == 6:
        return _Request(COMPLETIONS, {"prompt": words(rng, 400), "max_tokens": 4})
    if kind == 7:
        body = {"input": words(rng, 20), "max_output_tokens": rng.randrange(1, 48), "store": rng.random() < 0.5}
        return _Request(RESPONSES, body)
    if kind == 8:
        messages = [{"role": "user", "content": words(rng, 20)}]
        return _Request(MESSAGES, {"messages": messages, "max_tokens": rng.randrange(1, 48)})
    return _Request(CHAT, chat(rng, n=2, logprobs=True, top_logprobs=2))


async def _one(client: Client, rng: random.Random, seen: Counter[str]) -> None:
    request = _request(rng)
    send = _drain if rng.random() < 0.5 else _ask
    call = asyncio.create_task(send(client, request))
    if request.may_be_left and seen["aborted"] < ABORT_SHARE * seen.total():
        done, _ = await asyncio.wait({call}, timeout=rng.uniform(0.0, 0.5))
        if not done:
            call.cancel()
            await asyncio.wait({call})
            seen["aborted"] += 1
            return
    seen[await call] += 1


async def _ask(client: Client, request: _Request) -> str:
    reply = await client.post(request.path, request.body)
    if request.body.get("store") and reply.is_success:
        return await _delete(client, reply.json()["id"])
    return _outcome(request, reply)


async def _drain(client: Client, request: _Request) -> str:
    chunk: dict[str, Any] = {}
    try:
        async for chunk in client.stream(request.path, request.body):
            if chunk.get("error"):
                return f"stream: {chunk['error']}"
    except httpx.HTTPStatusError as error:
        return _outcome(request, error.response)
    except (httpx.TransportError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    if request.body.get("store"):
        return await _delete(client, chunk["response"]["id"])
    return "answered" if request.expected == 200 else f"a stream in answer to {request.body}"


async def _delete(client: Client, response_id: str) -> str:
    """What is stored would look like a leak until the store is full."""
    reply = await client.http.delete(f"{RESPONSES}/{response_id}")
    return "answered" if reply.is_success else f"delete: status {reply.status_code}: {reply.text[:200]}"


def _outcome(request: _Request, reply: httpx.Response) -> str:
    return "answered" if reply.status_code == request.expected else f"status {reply.status_code}: {reply.text[:200]}"


def slope_per_h(samples: list[tuple[float, float]]) -> float:
    """Of the straight line closest to (seconds, value)."""
    if len(samples) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*samples, strict=True)).slope * 3600


def batched_evenly(samples: list[tuple[float, float]], num_parts: int) -> list[list[tuple[float, float]]]:
    """Up to `num_parts` parts, none empty."""
    ends = [round(len(samples) * part / num_parts) for part in range(num_parts + 1)]
    return [samples[begin:end] for begin, end in pairwise(ends) if begin < end]


class _Watch:
    """Memory and open files of the server's processes, by the name of each."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.memory_mib: dict[str, list[tuple[float, float]]] = {}
        self.files: dict[str, list[int]] = {}

    def sample(self, at_s: float) -> None:
        pids = {"server": self._served.process.pid, **self._served.children()}
        for name, pid in pids.items():
            self.memory_mib.setdefault(name, []).append((at_s, resident_bytes(pid) / 2**20))
            self.files.setdefault(name, []).append(num_files(pid))

    def slopes(self) -> dict[str, float]:
        return {name: round(slope_per_h(samples), 2) for name, samples in self.memory_mib.items()}

    def course_mib(self) -> dict[str, list[float]]:
        """Memory at a tenth of the time, at two tenths …: what fills up flattens, what leaks does not."""
        return {
            name: [round(part[-1][1], 1) for part in batched_evenly(samples, NUM_PARTS)]
            for name, samples in self.memory_mib.items()
        }

    def files_grown(self) -> dict[str, float]:
        return {name: statistics.median(each[-5:]) - statistics.median(each[:5]) for name, each in self.files.items()}


async def _soak(client: Client, duration_s: float, watch: _Watch) -> Counter[str]:
    """What became of each request."""
    seen: Counter[str] = Counter()
    start_s = time.monotonic()

    async def act(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() - start_s < duration_s:
            await _one(client, rng, seen)

    async def sample() -> None:
        await asyncio.sleep(WARM_UP_SHARE * duration_s)
        while (at_s := time.monotonic() - start_s) < duration_s:
            watch.sample(at_s)
            await asyncio.sleep(min(SAMPLE_S, duration_s / 20))

    await asyncio.gather(sample(), *(act(seed) for seed in range(NUM_CLIENTS)))
    return seen


def measure(effort: Effort) -> Finding:
    async def main() -> Finding:
        async with serving() as client:
            total = await client.num_blocks()
            watch = _Watch(client.served)
            seen = await _soak(client, effort.soak_minutes * 60, watch)
            last = await client.until("vllm:kv_cache_usage_perc", 0.0, 30.0)
        blocks, slopes, growth = last.blocks(), watch.slopes(), watch.files_grown()
        leaked = total - blocks["free"] - blocks["cached"]
        errors = {what: count for what, count in seen.items() if what not in ("answered", "aborted")}
        has_aborted = seen["aborted"] >= ABORT_SHARE * seen.total() - NUM_CLIENTS
        return Finding(
            asked="30 minutes of mixed clients, 10% aborts: no unexpected error, block delta 0, RSS slope ≤ 2 MiB/h "
            "after warm-up, no growth of open files",
            measured={
                "minutes": effort.soak_minutes,
                "answered": seen["answered"],
                "aborted": seen["aborted"],
                "unexpected_errors": errors,
                "blocks_leaked": leaked,
                "rss_mib_per_h": slopes,
                "rss_mib": watch.course_mib(),
                "files_grown": growth,
            },
            is_met=effort.soak_minutes >= MIN_MINUTES
            and has_aborted
            and not errors
            and leaked == 0
            and slopes.keys() == _PROCESSES
            and max(slopes.values()) <= MAX_SLOPE_MIB_PER_H
            and max(growth.values()) <= 0,
        )

    return asyncio.run(main())
