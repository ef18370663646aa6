"""Figures 1–3: an answer is bitwise the same in company, with the prefix cache, and after preemptions.

The API tells a token's text, not its id: those that hold a part of a character all read U+FFFD, and are told apart by
their log-probabilities alone.
"""

import asyncio
import random
from typing import Any

from bodies import mixed_completion, words
from client import Client, serving
from finding import Effort, Finding

Choices = list[dict[str, Any]]
_MEMORY = ("--kv-cache-memory", "1G")
_BLOCK = 16


def _bodies(seed: int, count: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    prefixes = [words(rng, 120) + ". " for _ in range(4)]
    return [mixed_completion(rng, prefixes) for _ in range(count)]


async def _one_by_one(client: Client, bodies: list[dict[str, Any]]) -> list[Choices]:
    return [await client.choices(body) for body in bodies]


async def _in_batches(client: Client, bodies: list[dict[str, Any]], seed: int) -> list[Choices]:
    """Each beside 0 … 15 others, which come at random moments of its life."""
    rng = random.Random(seed)
    order = rng.sample(range(len(bodies)), len(bodies))
    found: dict[int, Choices] = {}

    async def ask(index: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        found[index] = await client.choices(bodies[index])

    while order:
        size = rng.randrange(1, 17)
        batch, order = order[:size], order[size:]
        await asyncio.gather(*(ask(index, rng.choice([0, 0.05, 0.2]) * rng.random()) for index in batch))
    return [found[index] for index in range(len(bodies))]


def _num_different(first: list[Choices], second: list[Choices]) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def company(effort: Effort) -> Finding:
    async def main() -> Finding:
        bodies = _bodies(1, effort.of(500, 16))
        async with serving(*_MEMORY, "--no-enable-prefix-caching") as client:
            alone = await _one_by_one(client, bodies)
            mixed = await _in_batches(client, bodies, 2)
        different = _num_different(alone, mixed)
        return Finding(
            asked="alone vs in mixed batches of 1–16: tokens' texts and log-probabilities bitwise equal",
            measured={"prompts": len(bodies), "different": different},
            is_met=different == 0,
        )

    return asyncio.run(main())


def prefix_cache(effort: Effort) -> Finding:
    async def main() -> Finding:
        bodies = _bodies(3, effort.of(500, 16))
        async with serving(*_MEMORY, "--no-enable-prefix-caching") as client:
            without = await _one_by_one(client, bodies)
        async with serving(*_MEMORY) as client:
            first = await _in_batches(client, bodies, 4)
            again = await _in_batches(client, bodies, 5)
            num_hits = await client.metric("vllm:prefix_cache_hits_total")
        different = _num_different(without, first) + _num_different(without, again)
        return Finding(
            asked="prefix cache on vs off: tokens' texts and log-probabilities bitwise equal",
            measured={"prompts": len(bodies), "prompt_tokens_from_the_cache": num_hits, "different": different},
            is_met=different == 0 and num_hits > 0,
        )

    return asyncio.run(main())


def preemption(effort: Effort) -> Finding:
    """Demand is what the requests would hold if all ran to their ends at once."""
    num_requests, num_tokens = 64, effort.of(256, 64)

    async def main() -> Finding:
        rng = random.Random(6)
        bodies = [
            {"prompt": words(rng, rng.randrange(20, 60)), "seed": index, "max_tokens": num_tokens, "ignore_eos": True}
            for index in range(num_requests)
        ]
        for body in bodies:
            body["logprobs"] = 2
        context = ("--max-model-len", "512", "--no-enable-prefix-caching")
        async with serving("--kv-cache-memory", "1G", *context) as client:
            replies = await asyncio.gather(*(client.post("/v1/completions", body) for body in bodies))
            unpressed = await client.scrape()
            block_bytes = (1 << 30) // sum(unpressed.blocks().values())
            assert unpressed.value("vllm:num_preemptions_total") == 0
        answers = [reply.raise_for_status().json() for reply in replies]
        demand = sum(-(-answer["usage"]["total_tokens"] // _BLOCK) for answer in answers)
        memory = max(demand // 4, 512 // _BLOCK + 2) * block_bytes
        async with serving("--kv-cache-memory", str(memory), *context) as client:
            pressed = await asyncio.gather(*(client.choices(body) for body in bodies))
            last = await client.scrape()
        num_preemptions, blocks = last.value("vllm:num_preemptions_total"), last.blocks()
        different = _num_different([answer["choices"] for answer in answers], pressed)
        return Finding(
            asked="pool at a quarter of demand, 64 requests: all finish, > 50 preemptions, texts and log-probabilities "
            "equal to an unpressed run",
            measured={
                "requests": num_requests,
                "blocks_demanded": demand,
                "blocks": sum(blocks.values()),
                "preemptions": num_preemptions,
                "different": different,
                "blocks_held_at_the_end": blocks["held"],
            },
            is_met=different == 0 and num_preemptions > 50 and blocks["held"] == 0,
        )

    return asyncio.run(main())
