"""What requests may say of tools."""

from typing import Any

import pytest
from server.conftest import InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine
from server.paths import CHAT

from octavo.server.tools.tool_use import MAX_TOOLS_BYTES


def tool(name: Any = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


CASES: list[tuple[dict[str, Any], str]] = [
    ({"tools": "f"}, "tools"),
    ({"tools": {}}, "tools"),
    ({"tools": [None]}, "tools[0]"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{**tool(), "extra": 1}]}, "tools[0].extra"),
    ({"tools": [tool(extra=1)]}, "tools[0].function.extra"),
    ({"tools": [tool("")]}, "tools[0].function.name"),
    ({"tools": [tool("a b")]}, "tools[0].function.name"),
    ({"tools": [tool("é")]}, "tools[0].function.name"),
    ({"tools": [tool("f\n")]}, "tools[0].function.name"),
    ({"tools": [tool("f" * 65)]}, "tools[0].function.name"),
    ({"tools": [tool(1)]}, "tools[0].function.name"),
    ({"tools": [tool(), tool()]}, "tools[1].function.name"),
    ({"tools": [tool(f"f{index}") for index in range(129)]}, "tools"),
    ({"tools": [tool(description="x" * ((1 << 14) + 1))]}, "tools[0].function.description"),
    ({"tools": [tool(description=1)]}, "tools[0].function.description"),
    ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
    ({"tools": [tool(parameters="{}")]}, "tools[0].function.parameters"),
    ({"tools": [tool(parameters={"type": "array"})]}, "tools[0].function.parameters"),
    ({"tools": [tool(parameters={"title": "x" * MAX_TOOLS_BYTES})]}, "tools"),
    ({"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
    ({"tools": [tool(strict=True, parameters={"not": {}})]}, "tools[0].function.parameters"),
    (
        {"tools": [tool(strict=True, parameters={"properties": {"a": {"if": {}}}})], "tool_choice": "required"},
        "tools[0].function.parameters",
    ),
    ({"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [tool()], "tool_choice": 1}, "tool_choice"),
    ({"tools": [tool()], "tool_choice": {}}, "tool_choice.function"),
    ({"tools": [tool()], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
    ({"tools": [tool()], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
    ({"tools": [tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
    ({"tools": [tool()], "response_format": {"type": "json_object"}}, "tools"),
    ({"tools": [tool()], "tool_choice": "required", "structured_outputs": {"regex": "x"}}, "tools"),
    ({"tools": [tool()], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    ({"include_reasoning": 1}, "include_reasoning"),
    ({"reasoning_effort": "lots"}, "reasoning_effort"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
]


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine(max_model_len=4096))


@pytest.mark.parametrize(("fields", "param"), CASES, ids=lambda value: str(value)[:60])
def test_refused_by_name(refusing: InProcess, fields: dict[str, Any], param: str) -> None:
    error = check_envelope(refusing.post(CHAT, chat_body(**fields)), 400, param)
    assert error["type"] == "invalid_request_error"
    assert not refusing.engine.calls


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "3"}, "messages[0].tool_call_id"),
        ({"role": "tool", "content": "3", "tool_call_id": ""}, "messages[0].tool_call_id"),
        ({"role": "tool", "content": "3", "tool_call_id": 7}, "messages[0].tool_call_id"),
        ({"role": "tool", "tool_call_id": "1"}, "messages[0].content"),
        ({"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": {"id": "1"}}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": ["x"]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "x", "function": {"name": "f"}}]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "x": 1, "function": {"name": "f"}}]}, "messages[0].tool_calls[0]"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"role": "ipython", "content": "x"}, "messages[0].role"),
    ],
)  # fmt: skip
def test_malformed_messages_are_refused(refusing: InProcess, message: dict[str, Any], param: str) -> None:
    body = {**chat_body(), "messages": [message, {"role": "user", "content": "Hi"}]}
    check_envelope(refusing.post(CHAT, body), 400, param)
    assert not refusing.engine.calls
