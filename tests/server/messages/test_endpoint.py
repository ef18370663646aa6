"""/v1/messages, to the letter: answers, events, counts, and errors in Anthropic's envelope."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import tool_templates
from server.conftest import MODEL, InProcess, prompt_text
from server.envelopes import check_error
from server.fake_engine import REPLY, FakeEngine
from server.messages.requests import PATH, PLACE, TIME, WEATHER, body, create, stream
from server.paths import COUNT
from server.responses.requests import named_events
from server.tool_calls import ARGUMENTS, ONE_CALL, TWO_CALLS, serving

from octavo.server.structured import guided


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client makes of a stream; checks the order of its events."""
    assert events[0]["type"] == "message_start" and events[-1] == {"type": "message_stop"}
    message = events[0]["message"]
    assert message["content"] == [] and message["stop_reason"] is None
    is_open = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open and event["index"] == len(message["content"])
            is_open = True
            message["content"].append({**event["content_block"], "pieces": ""})
            continue
        assert is_open and event["index"] == len(message["content"]) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            continue
        assert event["type"] == "content_block_delta"
        kind, key = {
            "text": ("text_delta", "text"),
            "thinking": ("thinking_delta", "thinking"),
            "tool_use": ("input_json_delta", "partial_json"),
        }[message["content"][-1]["type"]]
        assert event["delta"].keys() == {"type", key} and event["delta"]["type"] == kind
        message["content"][-1]["pieces"] += event["delta"][key]
    assert not is_open and events[-2]["type"] == "message_delta"
    return {**message, **events[-2]["delta"], "usage": events[-2]["usage"]}


def test_an_answer(server: InProcess) -> None:
    server.engine.num_cached_tokens = 3
    answer = create(server, system="Be brief.")
    assert answer.pop("id").startswith("msg_")
    num_prompt = len("<system>Be brief.<user>Hi<assistant>")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": REPLY}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": num_prompt - 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": len(REPLY.encode()) + 1,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    assert prompt_text(server) == "<system>Be brief.<user>Hi<assistant>"


def test_events_of_a_text(server: InProcess) -> None:
    events = stream(server)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert kinds[-4:] == ["content_block_delta", "content_block_stop", "message_delta", "message_stop"]
    assert events[0]["message"]["usage"]["input_tokens"] == len("<user>Hi<assistant>")
    assert events[1]["content_block"] == {"type": "text", "text": ""}
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    message = put_together(events)
    assert [block["pieces"] for block in message["content"]] == [REPLY]
    assert message["usage"] == create(server)["usage"]


def test_thinking_and_calls() -> None:
    server = serving(tool_templates.QWEN3, f"<think>\nHm.\n</think>\n\nSo:\n{TWO_CALLS}")
    answer = create(server, tools=[WEATHER, TIME], max_tokens=1000)
    assert answer["stop_reason"] == "tool_use"
    assert answer["usage"]["output_tokens_details"] == {"thinking_tokens": len("<think>\nHm.\n</think>")}
    ids = [block.pop("id") for block in answer["content"][2:]]
    assert len(set(ids)) == 2
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "So:"},
        {"type": "tool_use", "name": "get_weather", "input": PLACE},
        {"type": "tool_use", "name": "get_time", "input": {}},
    ]
    message = put_together(stream(server, tools=[WEATHER, TIME], max_tokens=1000))
    assert [block["pieces"] for block in message["content"]] == ["Hm.", "So:", ARGUMENTS, "{}"]
    assert message["content"][2]["input"] == {} and message["stop_reason"] == "tool_use"


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    data=st.data(),
    before=st.sampled_from(
        ("", "Let me see. 👋🏽\n\n", "<think>\nHm, 日本.\n</think>\n\n", "<think>Hm</think>A <tool_")
    ),
    after=st.sampled_from(("", "\n", " done", "\n<tool_call>\nnothing")),
    num_calls=st.integers(0, 3),
)
def test_streamed_is_whole(data: st.DataObject, before: str, after: str, num_calls: int) -> None:
    server = serving(tool_templates.QWEN3, before + "\n".join([ONE_CALL] * num_calls) + after)
    fields = {"tools": [WEATHER], "max_tokens": data.draw(st.sampled_from((1, 5, 40, 100, 1000)))}
    if data.draw(st.booleans()):
        fields["stop_sequences"] = ["日本", "done"]
    whole = create(server, **fields)
    server.engine.tokens_per_step = data.draw(st.integers(1, 7))
    streamed = put_together(stream(server, **fields))
    assert [block["type"] for block in streamed["content"]] == [block["type"] for block in whole["content"]]
    for mine, other in zip(streamed["content"], whole["content"], strict=True):
        if mine["type"] == "tool_use":
            assert other["input"] == (PLACE if mine["pieces"] == ARGUMENTS else {})
        else:
            assert mine["pieces"] == other[mine["type"]]
    for message in (streamed, whole):
        del message["usage"]["output_tokens_details"]  # of steps with several tokens, one may be half thinking
    for field in ("stop_reason", "stop_sequence", "usage"):
        assert streamed[field] == whole[field]


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, ("end_turn", None)),
        ({"max_tokens": 4}, ("max_tokens", None)),
        ({"stop_sequences": ["zzz", "wör"]}, ("stop_sequence", "wör")),
    ],
)
def test_stop_reasons(server: InProcess, fields: dict[str, Any], want: tuple[str, str | None]) -> None:
    answer = create(server, **fields)
    assert (answer["stop_reason"], answer["stop_sequence"]) == want
    end = stream(server, **fields)[-2]["delta"]
    assert (end["stop_reason"], end["stop_sequence"]) == want


def test_a_call_cut_off_has_no_input() -> None:
    server = serving(tool_templates.QWEN3, ONE_CALL)
    answer = create(server, tools=[WEATHER], max_tokens=ONE_CALL.index(ARGUMENTS) + 7)
    assert answer["stop_reason"] == "max_tokens" and answer["content"][0]["input"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"x": NaN}',
        '{"x": -Infinity}',
        '{"x": 1e999}',
        '{"x": "\\ud800"}',
        f'{{"x": {"[" * 900}{"]" * 900}}}',
        "[1]",
        "1",
    ],
)
def test_a_call_whose_arguments_are_no_object_of_json_has_no_input(arguments: str) -> None:
    server = serving(tool_templates.QWEN3, f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>')
    server.engine.info = dataclasses.replace(server.engine.info, max_model_len=1 << 13)
    answer = create(server, tools=[WEATHER], max_tokens=3000)
    assert [(block["type"], block["input"]) for block in answer["content"]] == [("tool_use", {})]


CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "U", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": ""},
            {"type": "text", "text": "A"},
            {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"place": "Köln"}},
            {"type": "tool_use", "id": "c2", "name": "get_weather", "input": {"place": "Bonn"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "Rain"},
            {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": [{"type": "text", "text": "No net"}]},
            {"type": "text", "text": "Well?"},
        ],
    },
]  # fmt: skip


@pytest.mark.parametrize("template", [tool_templates.QWEN3, tool_templates.PLAIN], ids=["hermes", "json"])
def test_blocks_are_a_conversation(template: str) -> None:
    server = serving(template)
    create(server, messages=CONVERSATION, tools=[WEATHER], system=[{"type": "text", "text": "S"}])
    prompt = prompt_text(server)
    words = ("S", "U", "A", "Köln", "Bonn", "Rain", "The call failed.", "No net", "Well?")
    at = 0
    for word in words:
        at = prompt.index(word, at)
    assert "The weather of a place." in prompt
    assert ("<think>\nHm\n</think>" in prompt) is (template == tool_templates.QWEN3)


def test_tool_choices() -> None:
    server = serving(tool_templates.PLAIN, f"So: {TWO_CALLS}")
    tools = [WEATHER, TIME]
    for choice, is_held, is_offered in (
        (None, False, True),
        ({"type": "auto"}, False, True),
        ({"type": "none"}, False, False),
        ({"type": "any"}, True, True),
        ({"type": "tool", "name": "get_time"}, True, True),
    ):
        create(server, tools=tools, tool_choice=choice)
        params = server.engine.calls[-1][1]
        assert (params.structured_outputs is not None) is is_held
        assert ("You can call" in prompt_text(server)) is is_offered
    assert "get_weather" not in params.structured_outputs.grammar
    one = serving(tool_templates.QWEN3, TWO_CALLS)
    for kind in ("auto", "any"):
        answer = create(one, tools=tools, tool_choice={"type": kind, "disable_parallel_tool_use": True})
        assert len(answer["content"]) == 1


def test_counted_is_used() -> None:
    server = serving(tool_templates.QWEN3)
    for fields in (
        {},
        {"system": "S"},
        {"messages": CONVERSATION, "tools": [WEATHER, TIME], "tool_choice": {"type": "any"}},
        {"thinking": {"type": "disabled"}},
    ):
        sent = body(**fields)
        usage = create(server, **fields)["usage"]
        del sent["max_tokens"]
        assert server.post(COUNT, sent).json() == {"input_tokens": usage["input_tokens"]}
    assert len(server.engine.calls) == 4


def test_thinking_is_switched_where_the_template_listens() -> None:
    server = serving(tool_templates.QWEN3, "Yes.")
    create(server, thinking={"type": "disabled"})
    assert prompt_text(server).endswith("<think>\n\n</think>\n\n")
    create(server, thinking={"type": "adaptive"})
    assert not prompt_text(server).endswith("<think>\n\n</think>\n\n")
    create(serving(tool_templates.PLAIN), thinking={"type": "disabled"})
    refused = {"type": "enabled", "budget_tokens": 1024}
    check_error(server.post(PATH, body(thinking=refused)), 400, "invalid_request_error", "budget_tokens")
    deaf = serving(tool_templates.R1)
    check_error(deaf.post(PATH, body(thinking={"type": "disabled"})), 400, "invalid_request_error", "thinking")
    budget = serving(tool_templates.PLAIN + "{{ thinking_budget }}")
    create(budget, thinking={"type": "enabled", "budget_tokens": 1234})
    assert prompt_text(budget).endswith("1234")


def test_fields_reach_the_engine(server: InProcess) -> None:
    schema = {"type": "object"}
    create(server, temperature=0.3, top_p=0.4, top_k=5, max_tokens=7, stop_sequences=["a"], cache_salt="s")
    params, salt = server.engine.calls[-1][1], server.engine.calls[-1][3]
    assert (params.temperature, params.top_p, params.top_k, params.max_tokens) == (0.3, 0.4, 5, 7)
    assert (params.stop, salt) == (("a",), "s")
    create(server, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert json.loads(server.engine.calls[-1][1].structured_outputs.json) == guided(schema, is_strict=True)


@pytest.mark.parametrize("path", [PATH, COUNT])
def test_errors_have_anthropics_envelope(path: str) -> None:
    server = InProcess(FakeEngine(), api_key=("key",), max_body_bytes=2000)
    mine = {"x-api-key": "key", "anthropic-version": "2023-06-01"}
    check_error(server.post(path, body()), 401, "authentication_error", "x-api-key")
    check_error(server.post(path, body(model=1), headers=mine), 400, "invalid_request_error", "model")
    other = {"model": "other", "messages": [], **({"max_tokens": 1} if path == PATH else {})}
    check_error(server.post(path, other, headers=mine), 404, "not_found_error", "other")
    check_error(server.post(path, body("x" * 3000), headers=mine), 413, "request_too_large")
    check_error(server.get(path, headers=mine), 405, "invalid_request_error", "POST")
    check_error(server.get(f"{path}/nowhere", headers=mine), 404, "not_found_error")
    server.context.gate.is_closed = True
    check_error(server.post(path, body(), headers=mine), 503, "overloaded_error")


def test_failures_have_anthropics_envelope(server: InProcess) -> None:
    server.engine.fails_after = 3
    check_error(server.post(PATH, body()), 500, "api_error")
    reply = server.post(PATH, body(stream=True), headers={"x-request-id": "mine"})
    event = named_events(reply.content)[-1]
    assert event["type"] == "error" and event["error"]["type"] == "api_error" and event["request_id"] == "mine"
