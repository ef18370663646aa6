"""Requests of every kind, repeatable by seed."""

import random
from typing import Any

TEXT = "the sea old house river mountain cat red seven letters of a machine and then under snow bread 日本 é 👋 why"
WORDS = TEXT.split()
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def mixed_completion(rng: random.Random, prefixes: list[str], max_tokens: int = 24) -> dict[str, Any]:
    """A completion with log-probabilities; of every way of sampling, some with a prefix that others have too."""
    prompt = (rng.choice(prefixes) if rng.random() < 0.5 else "") + words(rng, rng.randrange(1, 60))
    body: dict[str, Any] = {
        "prompt": prompt,
        "seed": rng.randrange(1 << 32),
        "max_tokens": rng.randrange(1, max_tokens + 1),
        "temperature": rng.choice([0, 0.7, 1, 1.5]),
        "top_p": rng.choice([1, 0.9]),
        "top_k": rng.choice([0, 40]),
        "repetition_penalty": rng.choice([1, 1.2]),
        "n": rng.choice([1, 1, 1, 2]),
        "logprobs": 5,
        "ignore_eos": rng.random() < 0.5,
    }
    if rng.random() < 0.1:
        body |= {"structured_outputs": {"json": SCHEMA}, "ignore_eos": False}
    return body


def chat(rng: random.Random, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell me about {words(rng, rng.randrange(1, 20))}."}]
    return {"messages": messages, "max_tokens": rng.randrange(1, 48), "seed": rng.randrange(1 << 32), **fields}
