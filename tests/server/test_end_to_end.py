"""`octavo serve` as users start it, with a small model."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from server.conftest import sse_events
from server.scrape import Scrape
from server.served import MODEL, Served, is_running

MESSAGES = [{"role": "user", "content": "Write a haiku about the sea, with an emoji."}]
LONG = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True}


@pytest.fixture(scope="module", autouse=True)
def model(real_model: Callable[[str], Path]) -> Path:
    """Fetched before the first server that is to serve it."""
    return real_model(MODEL)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Served]:
    running = Served()
    yield running
    assert running.end() == 0, "".join(running.lines)


@pytest.fixture
def client(served: Served, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(f"{served.url}/v1")


def gauge(url: str, name: str) -> float:
    return Scrape(httpx.get(f"{url}/metrics").text).value(name)


def test_chat_knows_the_capital(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=20,
    )
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stop", [None, ["the", "\n"]])
def test_streamed_is_not_streamed(client: openai.OpenAI, stop: list[str] | None) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "n": 2, "seed": 5, "max_tokens": 24, "stop": stop}
    whole = client.chat.completions.create(**options)
    texts = ["", ""]
    for chunk in client.chat.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_the_same_answer_alone_and_in_company(served: Served) -> None:
    bodies = [
        {"model": MODEL, "prompt": f"{start} and", "max_tokens": 10, "seed": 3, "logprobs": 2}
        for start in ("Cats", "The red house on the hill", "One, two, three, four", "Snow")
    ]

    async def together() -> list[Any]:
        async with httpx.AsyncClient(timeout=60) as client:
            replies = await asyncio.gather(*(client.post(f"{served.url}/v1/completions", json=body) for body in bodies))
        return [reply.json()["choices"] for reply in replies]

    alone = [httpx.post(f"{served.url}/v1/completions", json=body, timeout=60).json()["choices"] for body in bodies]
    assert asyncio.run(together()) == alone


def test_echoed_logprobs_are_the_generated_ones(client: openai.OpenAI) -> None:
    prompt = client.post("/../tokenize", body={"prompt": "The capital of France is"}, cast_to=object)["tokens"]
    first = client.completions.create(model=MODEL, prompt=prompt, max_tokens=8, temperature=0, logprobs=2)
    generated = first.choices[0].logprobs
    again = client.post(
        "/../tokenize", body={"prompt": first.choices[0].text, "add_special_tokens": False}, cast_to=object
    )
    echoed = client.completions.create(
        model=MODEL, prompt=prompt + again["tokens"], max_tokens=1, temperature=0, logprobs=2, echo=True
    ).choices[0]
    start = len(prompt)
    assert echoed.logprobs.tokens[start:-1] == generated.tokens
    assert echoed.logprobs.token_logprobs[start:-1] == generated.token_logprobs
    assert echoed.logprobs.token_logprobs[0] is None
    assert echoed.text.startswith("The capital of France is" + first.choices[0].text)
    for token, offset in zip(echoed.logprobs.tokens, echoed.logprobs.text_offset, strict=True):
        assert echoed.text.startswith(token, offset)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_forced_tool_calls(client: openai.OpenAI, choice: Any) -> None:
    parameters = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    options: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [tool],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    [answer] = client.chat.completions.create(**options).choices
    [call] = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    assert call.function.name == "get_weather" and json.loads(call.function.arguments)["city"] == "Paris"
    fragments = [
        called.function.arguments
        for chunk in client.chat.completions.create(**options, stream=True)
        for called in chunk.choices[0].delta.tool_calls or ()
    ]
    assert "".join(fragments) == call.function.arguments and len(fragments) > 2


def test_ids_beyond_the_vocabulary_are_refused(served: Served) -> None:
    for token in (49_152, 1 << 40, -1):
        reply = httpx.post(f"{served.url}/v1/completions", json={"model": MODEL, "prompt": [token]})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "prompt"


def test_a_client_that_goes_away_frees_its_blocks(served: Served) -> None:
    with httpx.stream("POST", f"{served.url}/v1/completions", json={**LONG, "stream": True}, timeout=60) as reply:
        pieces = reply.iter_raw()  # the connection lives as long as this iterator
        next(pieces)
        assert gauge(served.url, "vllm:num_requests_running") == 1
    for _ in range(200):
        if gauge(served.url, "vllm:kv_cache_usage_perc") == 0:
            break
    assert gauge(served.url, "vllm:num_requests_running") == 0
    assert gauge(served.url, "vllm:kv_cache_usage_perc") == 0


def test_a_deadline_ends_the_stream_and_frees_its_blocks(served: Served) -> None:
    body = {**LONG, "stream": True, "timeout": 0.5}
    reply = httpx.post(f"{served.url}/v1/completions", json=body, timeout=60)
    *chunks, last = sse_events(reply.content)
    assert chunks and json.loads(last)["error"]["code"] == "timeout"
    assert httpx.post(f"{served.url}/v1/completions", json={**LONG, "timeout": 0.5}, timeout=60).status_code == 504
    for _ in range(200):
        if gauge(served.url, "vllm:kv_cache_usage_perc") == 0:
            break
    assert gauge(served.url, "vllm:num_requests_running") == 0
    assert gauge(served.url, "vllm:kv_cache_usage_perc") == 0


def test_cached_tokens_are_reported(client: openai.OpenAI) -> None:
    prompt = "A very particular prompt that is long enough to fill more than one block of sixteen tokens, twice."
    cached = [
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=1).usage.prompt_tokens_details.cached_tokens
        for _ in range(2)
    ]
    assert cached[0] == 0 and cached[1] >= 16


def test_sigterm_lets_the_stream_finish_and_leaves_no_process() -> None:
    server = Served()
    try:
        structured = {"model": MODEL, "prompt": "Hi", "structured_outputs": {"regex": "a"}}
        assert httpx.post(f"{server.url}/v1/completions", json=structured, timeout=60).status_code == 200
        children = server.children()
        assert children.keys() == {"process", "grammar_check"}
        body = {**LONG, "max_tokens": 30, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as reply:
            pieces = reply.iter_raw()
            data = next(pieces)
            server.process.send_signal(signal.SIGTERM)
            data += b"".join(pieces)
        *chunks, done = sse_events(data)
        assert done == "[DONE]"
        assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(20) == 0
        assert not [name for name, pid in children.items() if is_running(pid)]
    finally:
        server.process.kill()


def test_a_killed_engine_is_seen() -> None:
    """Figure 8; the server ends by itself, with an error, so that whoever started it starts it again."""
    server = Served("--log-format", "json", "--log-level", "debug")
    try:
        with httpx.stream("POST", f"{server.url}/v1/completions", json={**LONG, "stream": True}, timeout=60) as reply:
            pieces = reply.iter_raw()
            data = next(pieces)
            killed_s = time.monotonic()
            os.kill(server.engine_pid(), signal.SIGKILL)
            while httpx.get(f"{server.url}/health").status_code == 200:
                assert time.monotonic() - killed_s < 2
            data += b"".join(pieces)
        assert time.monotonic() - killed_s < 5
        assert json.loads(sse_events(data)[-1])["error"]["code"] == "engine_dead"
        assert httpx.get(f"{server.url}/health").json()["error"]["code"] == "engine_dead"
        reply = httpx.post(f"{server.url}/v1/completions", json=LONG)
        assert reply.status_code == 503 and reply.headers["x-should-retry"] == "false"
        assert server.process.wait(20) == 1
    finally:
        server.process.kill()
    server.join()
    entries = [json.loads(line) for line in server.lines]
    assert all(entry.keys() >= {"ts", "level", "logger", "message"} for entry in entries)
    assert any("died with code -9" in entry["message"] for entry in entries)
    loggers = {entry["logger"] for entry in entries}
    assert loggers >= {"octavo.engine.process", "octavo.server.access_log", "octavo.server.startup"}
    assert any(entry.get("phase") == "load weights" for entry in entries)
