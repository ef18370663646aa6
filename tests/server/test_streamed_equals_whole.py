"""Figure 15: the joined stream is the whole answer, byte for byte: emoji, CJK, stop strings cut anywhere, n = 4, tools.

`OCTAVO_STREAM_CASES=2000 pytest tests/server/test_streamed_equals_whole.py` runs more than the ordinary few hundred.
"""

import os
import random
from typing import Any

import pytest
from server import tool_templates
from server.conftest import MODEL, InProcess, chat_body
from server.tool_calls import (
    ONE_CALL,
    TIME,
    TWO_CALLS,
    WEATHER,
    as_put_together,
    make_engine,
    put_together,
    without_ids,
)

NUM_CASES = int(os.environ.get("OCTAVO_STREAM_CASES", "200"))
NUM_SEEDS = 10
PIECES = [
    "a",
    "Ω",
    "é",
    "e\u0301",
    "日本",
    "語",
    "한국",
    "👋🏽",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "\n",
    "\r\n",
    " ",
    "\t",
    '"',
    "\\",
    "\u2028",
    "</",
    "<end>",
]
PIECES += ["</s>", "<tool_call>", "</tool_call>", '{"name":', "\ufffd", "\u200b", "\0", "data: ", "[DONE]", "\ufeff"]
CALLS = [
    ONE_CALL,
    TWO_CALLS,
    f"Let me see.\n{ONE_CALL}",
    f"{ONE_CALL}👋",
    "<tool_call>\n{",
    "<tool_call>{}</tool_call>日",
]


def text_of(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(30)))


def stop_of(rng: random.Random, text: str) -> list[str]:
    """Parts of the text, begun and ended anywhere, and what only begins like one."""
    if not text or rng.random() < 0.3:
        return []
    stops = []
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(text))
        part = text[start : start + rng.randrange(1, 6)]
        stops.append(part if rng.random() < 0.7 else part + "Z")
    return stops


def options_of(rng: random.Random, texts: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"n": len(texts), "max_tokens": rng.choice([1, 7, 50, 400]), "seed": 1}
    stop = stop_of(rng, rng.choice(texts))
    if stop:
        options |= {"stop": stop, "include_stop_str_in_output": rng.random() < 0.3}
    return options


def check_completions(server: InProcess, options: dict[str, Any]) -> None:
    body = {"model": MODEL, "prompt": "Hi", "logprobs": 1, **options}
    whole = server.complete(**body)
    joined = [{"text": "", "tokens": [], "logprobs": [], "finish_reason": None} for _ in whole["choices"]]
    usage = None
    for chunk in server.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}}):
        usage = chunk["usage"] or usage
        for choice in chunk["choices"]:
            mine = joined[choice["index"]]
            mine["text"] += choice["text"]
            mine["tokens"] += choice["logprobs"]["tokens"] if choice["logprobs"] else []
            mine["logprobs"] += choice["logprobs"]["token_logprobs"] if choice["logprobs"] else []
            assert mine["finish_reason"] is None
            mine["finish_reason"] = choice["finish_reason"]
    for choice, mine in zip(whole["choices"], joined, strict=True):
        assert mine == {
            "text": choice["text"],
            "tokens": choice["logprobs"]["tokens"],
            "logprobs": choice["logprobs"]["token_logprobs"],
            "finish_reason": choice["finish_reason"],
        }
    assert usage == whole["usage"]


def check_chat(server: InProcess, options: dict[str, Any]) -> None:
    whole = server.chat(**options)
    chunks = server.stream("/v1/chat/completions", chat_body(**options))
    for choice in whole["choices"]:
        assert without_ids(put_together(chunks, choice["index"])) == without_ids(as_put_together(choice))


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_streamed_equals_whole(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(NUM_CASES // NUM_SEEDS):
        engine = make_engine(tool_templates.QWEN3)
        server = InProcess(engine)
        has_tools = rng.random() < 0.4
        texts = [
            rng.choice(CALLS) if has_tools and rng.random() < 0.7 else text_of(rng)
            for _ in range(rng.choice([1, 2, 4]))
        ]
        engine.tokens_per_step = rng.choice([1, 1, 2, 3, 11])
        engine.reply = lambda prompt, sample, texts=texts: texts[sample]  # type: ignore[misc]
        options = options_of(rng, texts)
        if has_tools:
            check_chat(server, {**options, "tools": [WEATHER, TIME]})
        elif rng.random() < 0.5:
            check_chat(server, options)
        else:
            check_completions(server, options)
