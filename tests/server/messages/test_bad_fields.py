"""Every field of /v1/messages with values it must not have: 400, Anthropic's envelope, the field's name."""

from typing import Any

import pytest
from server.bad_values import case_id
from server.conftest import InProcess
from server.envelopes import check_error
from server.fake_engine import FakeEngine
from server.messages.requests import PATH, body
from server.paths import COUNT

WRONG_FOR_ALL = ["1", True, [], {}, [1]]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "x"}


def said(*blocks: Any, role: str = "user") -> list[dict[str, Any]]:
    closing = [{"role": "user", "content": "Go on."}] if role == "assistant" else []
    return [{"role": role, "content": list(blocks)}, *closing]


PROMPT_CASES: list[tuple[str, Any, str]] = [
    ("model", None, "model"),
    ("model", 1, "model"),
    ("messages", None, "messages"),
    ("messages", "Hi", "messages"),
    ("messages", [], "messages"),
    ("messages", ["Hi"], "messages[0]"),
    ("messages", [{}], "messages[0].role"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "system", "content": "x"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 1}], "messages[0].content"),
    ("messages", [{"role": "user", "content": "x", "name": "y"}], "messages[0].name"),
    ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "The"}], "messages"),
    ("messages", said("x"), "messages[0].content[0]"),
    ("messages", said({"type": "poem"}), "messages[0].content[0].type"),
    ("messages", said({"text": "x"}), "messages[0].content[0].type"),
    ("messages", said({"type": "text"}), "messages[0].content[0].text"),
    ("messages", said({"type": "text", "text": "x", "colour": 1}), "messages[0].content[0].colour"),
    ("messages", said({"type": "image", "source": {"type": "base64", "data": "x"}}), "messages[0].content[0] is of type 'image'"),
    ("messages", said({"type": "document", "source": {}}), "messages[0].content[0] is of type 'document'"),
    ("messages", said({"type": "redacted_thinking", "data": "x"}), "messages[0].content[0].type"),
    ("messages", said(USE), "messages[0].content[0]"),
    ("messages", said({"type": "thinking", "thinking": "x"}), "messages[0].content[0]"),
    ("messages", said(RESULT, role="assistant"), "messages[0].content[0]"),
    ("messages", said({**USE, "input": "{}"}, role="assistant"), "messages[0].content[0].input"),
    ("messages", said({**USE, "id": ""}, role="assistant"), "messages[0].content[0].id"),
    ("messages", said({**USE, "name": "f" * 257}, role="assistant"), "messages[0].content[0].name"),
    ("messages", said({**RESULT, "tool_use_id": ""}), "messages[0].content[0].tool_use_id"),
    ("messages", said({**RESULT, "content": 1}), "messages[0].content[0].content"),
    ("messages", said({**RESULT, "content": [{"type": "image"}]}), "messages[0].content[0].content[0] is of type 'image'"),
    ("messages", said({**RESULT, "is_error": "yes"}), "messages[0].content[0].is_error"),
    ("system", 1, "system"),
    ("system", [{"type": "image"}], "system[0].type"),
    ("system", ["x"], "system[0]"),
    ("tools", {}, "tools"),
    ("tools", ["f"], "tools[0]"),
    ("tools", [{"name": "f"}], "tools[0].input_schema"),
    ("tools", [{"input_schema": {}}], "tools[0].name"),
    ("tools", [{**TOOL, "name": "a b"}], "tools[0].name"),
    ("tools", [{**TOOL, "input_schema": []}], "tools[0].input_schema"),
    ("tools", [{**TOOL, "colour": 1}], "tools[0].colour"),
    ("tools", [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}], "web_search_20250305"),
    ("tools", [TOOL] * 129, "tools"),
    ("tools", [TOOL, TOOL], "tools[1]"),
    ("tool_choice", "auto", "tool_choice"),
    ("tool_choice", {"type": "sometimes"}, "tool_choice.type"),
    ("tool_choice", {"type": "tool"}, "tool_choice.name"),
    ("tool_choice", {"type": "any"}, "tool_choice"),
    ("tool_choice", {"type": "none", "disable_parallel_tool_use": True}, "tool_choice.disable_parallel_tool_use"),
    ("thinking", True, "thinking"),
    ("thinking", {"type": "enabled"}, "thinking.budget_tokens"),
    ("thinking", {"type": "enabled", "budget_tokens": 0}, "thinking.budget_tokens"),
    ("thinking", {"type": "enabled", "budget_tokens": 1024}, "thinking.budget_tokens"),
    ("thinking", {"type": "adaptive", "display": "omitted"}, "thinking.display"),
    ("thinking", {"type": "hard"}, "thinking.type"),
    ("output_config", {"format": {"type": "json_object"}}, "output_config.format"),
    ("output_config", {"effort": "huge"}, "output_config.effort"),
    ("output_config", {"effort": "low"}, "output_config.effort"),
    ("container", "x", "container"),
    ("mcp_servers", [{"type": "url"}], "mcp_servers"),
    ("prompt", "x", "prompt"),
]  # fmt: skip
CASES: list[tuple[str, Any, str]] = [
    *(("max_tokens", value, "max_tokens") for value in [None, 0, -1, 512, 2**63, 1.5, *WRONG_FOR_ALL]),
    *(("temperature", value, "temperature") for value in [-1, 101, 1e300, *WRONG_FOR_ALL]),
    *(("top_p", value, "top_p") for value in [0, 1.5, *WRONG_FOR_ALL]),
    *(("top_k", value, "top_k") for value in [-2, 2**63, 1.5, *WRONG_FOR_ALL]),
    *(("timeout", value, "timeout") for value in [0, -1, 86_401, *WRONG_FOR_ALL]),
    *(("priority", value, "priority") for value in [1, 2**63, 0.5, *WRONG_FOR_ALL]),
    *(("stream", value, "stream") for value in ["true", 1, 0, [], {}]),
    *(
        ("stop_sequences", value, "stop_sequences")
        for value in ["a", 1, {}, [""], [1], ["a"] * 65, ["x" * 1025], ["x" * 999] * 5]
    ),
    ("cache_salt", "", "cache_salt"),
    ("messages", [{"role": "user", "content": "x" * 512}], "the prompt has"),
    ("stop", ["a"], "stop"),
    ("n", 1, "n"),
]


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


@pytest.mark.parametrize(("name", "value", "words"), CASES + PROMPT_CASES, ids=case_id)
def test_refused_by_name(refusing: InProcess, name: str, value: Any, words: str) -> None:
    check_error(refusing.post(PATH, body(**{name: value})), 400, "invalid_request_error", words)
    assert not refusing.engine.calls


@pytest.mark.parametrize(("name", "value", "words"), PROMPT_CASES, ids=case_id)
def test_counting_refuses_the_same(refusing: InProcess, name: str, value: Any, words: str) -> None:
    sent = body(**{name: value})
    del sent["max_tokens"]
    check_error(refusing.post(COUNT, sent), 400, "invalid_request_error", words)
    check_error(refusing.post(COUNT, body()), 400, "invalid_request_error", "max_tokens")


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"user_id": "me"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}},
        {"tools": [], "stop_sequences": [], "thinking": {"type": "adaptive"}, "output_config": {}, "system": []},
        {"tools": [{**TOOL, "eager_input_streaming": True}], "thinking": {"type": "adaptive", "display": "summarized"}},
        {"tool_choice": {"type": "auto"}, "speed": "standard", "temperature": None, "stream": False},
    ],
)
def test_what_asks_for_nothing_is_accepted(fields: dict[str, Any]) -> None:
    reply = InProcess(FakeEngine()).post(PATH, body(**fields))
    assert reply.status_code == 200, reply.text
