"""What every endpoint that answers conversations has alike: the prompt, places, deadlines, clients that go away."""

import asyncio
from typing import Any

import httpx
import pytest
from server import tool_templates
from server.conftest import InProcess, chat_body, prompt_text, serving, soon
from server.fake_engine import FakeEngine
from server.messages import requests as messages
from server.responses import requests as responses
from server.tool_calls import serving as serving_template

from octavo.server import endpoint
from octavo.server.visit import Visit

ENDPOINTS = {
    "/v1/chat/completions": chat_body,
    responses.PATH: responses.body,
    messages.PATH: messages.body,
}
PATHS = list(ENDPOINTS)


@pytest.mark.parametrize("template", [tool_templates.QWEN3, tool_templates.PLAIN, tool_templates.LLAMA3])
def test_one_conversation_is_one_prompt(template: str) -> None:
    """A system message, a call, its result and a question, each as its endpoint says it."""
    schema = messages.WEATHER["input_schema"]
    declared = {"name": "get_weather", "description": "The weather of a place.", "parameters": schema}
    call = {"name": "get_weather", "arguments": '{"place": "Köln"}'}
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
    ]
    items = [
        {"role": "user", "content": "U"},
        {"type": "function_call", "call_id": "c1", **call},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
    ]
    blocks = [
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"place": "Köln"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "Rain"}]},
    ]  # fmt: skip
    bodies = {
        PATHS[0]: {**chat_body(), "messages": chat, "tools": [{"type": "function", "function": declared}]},
        responses.PATH: responses.body(items, instructions="S", tools=[{"type": "function", **declared}]),
        messages.PATH: messages.body(messages=blocks, system="S", tools=[messages.WEATHER]),
    }
    server = serving_template(template)
    prompts = []
    for path, body in bodies.items():
        reply = server.post(path, body)
        assert reply.status_code == 200, reply.text
        prompts.append(prompt_text(server))
    assert prompts[0] == prompts[1] == prompts[2] and "Köln" in prompts[0] and "Rain" in prompts[0]


@pytest.mark.parametrize("name", ["functions.get_weather", "get weather", "f" * 256])
def test_a_call_of_what_is_no_function_can_be_sent_back(name: str) -> None:
    """As it was answered: the agent says that there is no such tool, and the conversation goes on."""
    server = serving_template(tool_templates.QWEN3, f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>')
    bodies = {
        PATHS[0]: chat_body(tools=[{"type": "function", "function": {"name": "get_weather"}}]),
        responses.PATH: responses.body(tools=[{"type": "function", "name": "get_weather"}]),
        messages.PATH: messages.body(tools=[messages.WEATHER], max_tokens=400),
    }
    answers = {path: server.post(path, body).json() for path, body in bodies.items()}
    message = answers[PATHS[0]]["choices"][0]["message"]
    items, blocks = answers[responses.PATH]["output"], answers[messages.PATH]["content"]
    assert [message["tool_calls"][0]["function"]["name"], items[0]["name"], blocks[0]["name"]] == [name] * 3
    user = {"role": "user", "content": "No such tool."}
    conversations: dict[str, dict[str, Any]] = {
        PATHS[0]: {"messages": [message, user]},
        responses.PATH: {"input": [*items, user]},
        messages.PATH: {"messages": [{"role": "assistant", "content": blocks}, user]},
    }
    for path, conversation in conversations.items():
        reply = server.post(path, {**bodies[path], **conversation})
        assert reply.status_code == 200, reply.text
        assert name in prompt_text(server)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_streamed", [True, False])
def test_the_deadline_ends_it_before_the_first_token(path: str, is_streamed: bool) -> None:
    server = InProcess(FakeEngine(), request_timeout=0.05)
    server.engine.is_held = True
    reply = server.post(path, ENDPOINTS[path](stream=is_streamed))
    assert reply.status_code == 504 and "0.05 s" in reply.json()["error"]["message"]
    assert len(server.engine.aborted) == 1 and server.engine.admission.num_taken == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_shape_and_tools_are_refused_before_a_place_is_taken(path: str) -> None:
    schema = {"type": "object"}
    fields: dict[str, dict[str, Any]] = {
        PATHS[0]: {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "response_format": {"type": "json_object"},
        },
        responses.PATH: {
            "tools": [{"type": "function", "name": "f"}],
            "text": {"format": {"type": "json_schema", "name": "s", "schema": schema}},
        },
        messages.PATH: {
            "tools": [{"name": "f", "input_schema": schema}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
    }
    server = InProcess(FakeEngine())
    server.engine.texts.render_chat = None  # type: ignore[assignment, method-assign]
    server.engine.admission.take = None  # type: ignore[assignment, method-assign]
    reply = server.post(path, ENDPOINTS[path](**fields[path]))
    assert reply.status_code == 400 and "cannot call tools" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_read", [True, False])
def test_a_full_queue_refuses_before_the_body_is_read(
    path: str, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = InProcess(FakeEngine(max_num_seqs=1, max_num_queued_reqs=1))
    server.engine.admission.take(2)
    if is_read:  # as where the last place went meanwhile
        monkeypatch.setattr(Visit, "knock", lambda *_: None)
    else:
        monkeypatch.setattr(endpoint, "read_request", None)
    server.engine.texts.render_chat = None  # type: ignore[assignment, method-assign]
    reply = server.post(path, ENDPOINTS[path]())
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1
    assert server.engine.admission.num_taken == 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("hold_after", [0, 3])
def test_a_client_that_goes_away_is_aborted(path: str, is_streamed: bool, hold_after: int) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, hold_after
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.post(url + path, json=ENDPOINTS[path](stream=is_streamed)))
            await soon(lambda: bool(engine.open_ids))
            if hold_after:
                await soon(lambda: engine.stats is not None and engine.stats.step >= hold_after)
            request.cancel()
        await soon(lambda: bool(engine.aborted))
        assert not engine.open_ids
        await soon(lambda: context.gate.num_inside == 0)
        assert engine.admission.num_taken == 0 and not context.responses._shelves

    serving(test)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATHS[0], {"reasoning_effort": "max"}),
        (responses.PATH, {"reasoning": {"effort": "max"}}),
        (messages.PATH, {"output_config": {"effort": "max"}}),
    ],
)
def test_the_most_effort_goes_to_the_template(path: str, fields: dict[str, Any]) -> None:
    server = serving_template(tool_templates.EFFORT)
    reply = server.post(path, ENDPOINTS[path](**fields))
    assert reply.status_code == 200, reply.text
    assert prompt_text(server).endswith("max")


def test_tokens_of_reasoning_are_told() -> None:
    server = serving_template(tool_templates.QWEN3, "<think>\nHm.\n</think>\n\nYes.")
    want = len("<think>\nHm.\n</think>")
    by_path = {path: server.post(path, make()).json()["usage"] for path, make in ENDPOINTS.items()}
    assert by_path[PATHS[0]]["completion_tokens_details"] == {"reasoning_tokens": want}
    assert by_path[responses.PATH]["output_tokens_details"] == {"reasoning_tokens": want}
    assert by_path[messages.PATH]["output_tokens_details"] == {"thinking_tokens": want}
    options = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}, "n": 2}
    chunks = server.stream(PATHS[0], chat_body(max_tokens=100, **options))
    told = [chunk["usage"]["completion_tokens_details"]["reasoning_tokens"] for chunk in chunks]
    assert told == sorted(told) and told[-1] == 2 * want
