"""Every field of /v1/responses with values it must not have: 400, the envelope, the field's name."""

from typing import Any

import pytest
from server.bad_values import case_id
from server.conftest import MODEL, InProcess
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine

MESSAGE = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
TOOL = {"type": "function", "name": "f"}
WRONG_FOR_ALL = ["1", True, [], {}, [1]]
CASES: list[tuple[str, Any, str]] = [
    *(("temperature", value, "temperature") for value in [-1, 101, 1e300, *WRONG_FOR_ALL]),
    *(("top_p", value, "top_p") for value in [0, 1.5, *WRONG_FOR_ALL]),
    *(("top_k", value, "top_k") for value in [-2, 2**63, 1.5, *WRONG_FOR_ALL]),
    *(("max_output_tokens", value, "max_output_tokens") for value in [0, -1, 512, 2**63, 1.5, *WRONG_FOR_ALL]),
    *(("timeout", value, "timeout") for value in [0, -1, 86_401, *WRONG_FOR_ALL]),
    *(("priority", value, "priority") for value in [1, 2**63, 0.5, *WRONG_FOR_ALL]),
    *((name, value, name) for name in ("stream", "store", "parallel_tool_calls") for value in ["true", 1, [], {}]),
    *((name, value, name) for name in ("instructions", "previous_response_id") for value in [1, True, [], {}]),
    ("model", None, "model"),
    ("model", 1, "model"),
    ("input", None, "input"),
    ("input", 1, "input"),
    ("input", {}, "input"),
    ("input", [], "input"),
    ("input", ["Hi"], "input[0]"),
    ("input", [None], "input[0]"),
    ("input", [{}], "input[0].role"),
    ("input", [{"type": "message", "role": "user"}], "input[0].content"),
    ("input", [{"role": "tool", "content": "x"}], "input[0].role"),
    ("input", [{"role": "user", "content": 1}], "input[0].content"),
    ("input", [{"role": "user", "content": "x", "colour": 1}], "input[0].colour"),
    ("input", [MESSAGE, {"type": "poem"}], "input[1].type"),
    ("input", [{"type": 1}], "input[0].type"),
    ("input", [{"type": "item_reference", "id": "x"}], "input[0].type"),
    ("input", [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}], "input[0].content[0]"),
    ("input", [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}], "input[0].content[0]"),
    ("input", [{"role": "user", "content": [{"type": "poem"}]}], "input[0].content[0].type"),
    ("input", [{"role": "user", "content": ["x"]}], "input[0].content[0]"),
    ("input", [{**CALL, "call_id": ""}], "input[0].call_id"),
    ("input", [{**CALL, "name": "f" * 257}], "input[0].name"),
    ("input", [{**CALL, "arguments": {}}], "input[0].arguments"),
    ("input", [{**CALL, "arguments": "{"}], "input[0].arguments"),
    ("input", [{"type": "function_call_output", "call_id": "c"}], "input[0].output"),
    ("input", [{"type": "function_call_output", "output": "x"}], "input[0].call_id"),
    ("input", [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}], "input[0].output[0]"),
    ("input", "x" * 512, "input"),
    ("tools", {}, "tools"),
    ("tools", ["f"], "tools[0]"),
    ("tools", [{}], "tools[0].type"),
    ("tools", [{"type": 1}], "tools[0].type"),
    ("tools", [{"type": "web_search", "search_context_size": "low"}], "tools[0]"),
    ("tools", [{"type": "function"}], "tools[0].name"),
    ("tools", [{"type": "function", "function": {"name": "f"}}], "tools[0].function"),
    ("tools", [{**TOOL, "parameters": []}], "tools[0].parameters"),
    ("tools", [TOOL] * 129, "tools"),
    ("tool_choice", "required", "tool_choice"),
    ("tool_choice", "sometimes", "tool_choice"),
    ("tool_choice", {"type": "function"}, "tool_choice.name"),
    ("tool_choice", {"type": "web_search"}, "tool_choice.type"),
    ("text", "text", "text"),
    ("text", {"format": "text"}, "text.format"),
    ("text", {"format": {"type": "poem"}}, "text.format.type"),
    ("text", {"format": {"type": "json_schema", "name": "x"}}, "text.format.schema"),
    ("text", {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"colour": 1}}}, "text.format"),
    ("text", {"verbosity": "low"}, "text.verbosity"),
    ("reasoning", {"effort": "huge"}, "reasoning.effort"),
    ("reasoning", {"effort": "low"}, "reasoning.effort"),
    ("reasoning", {"summary": "auto"}, "reasoning.summary"),
    ("metadata", {"a": 1}, "metadata[...]"),
    ("metadata", {"a": "x" * 513}, "metadata[...]"),
    ("metadata", {str(i): "" for i in range(17)}, "metadata"),
    ("cache_salt", "", "cache_salt"),
    ("cache_salt", 1, "cache_salt"),
    ("background", True, "background"),
    ("include", ["message.output_text.logprobs"], "include"),
    ("truncation", "auto", "truncation"),
    ("conversation", "conv_1", "conversation"),
    ("max_tool_calls", 1, "max_tool_calls"),
    ("prompt", {"id": "x"}, "prompt"),
    ("messages", [MESSAGE], "messages"),
    ("max_tokens", 1, "max_tokens"),
    ("top_logprobs", 1, "top_logprobs"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


@pytest.mark.parametrize(("name", "value", "param"), CASES, ids=case_id)
def test_refused_by_name(refusing: InProcess, name: str, value: Any, param: str) -> None:
    error = check_envelope(refusing.post("/v1/responses", {"model": MODEL, "input": "Hi", name: value}), 400, param)
    assert error["type"] == "invalid_request_error"
    assert not refusing.engine.calls


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_output_tokens": 500}, "max_output_tokens=500"),
        ({"input": []}, "input must be"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"a": 1}}}}, "text.format"),
        ({"tools": [{"type": "web_search"}]}, "'web_search'"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort is not read"),
    ],
    ids=str,
)
def test_messages_call_fields_what_the_client_calls_them(
    refusing: InProcess, fields: dict[str, Any], words: str
) -> None:
    reply = refusing.post("/v1/responses", {"model": MODEL, "input": "x" * 50, **fields})
    assert words in check_envelope(reply, 400)["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": {"id": "p"}},
        {"stream_options": {"include_obfuscation": True}},
        {"top_logprobs": 2},
        {"background": True},
    ],
)
def test_what_is_not_built_is_said_to_be(refusing: InProcess, fields: dict[str, Any]) -> None:
    [name] = fields
    error = check_envelope(
        refusing.post("/v1/responses", {"model": MODEL, "input": "Hi", **fields}), 400, name, "not_built"
    )
    assert error["message"].startswith(f"{name} is not built yet")


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False, "include": [], "truncation": "disabled", "service_tier": "auto", "user": "me"},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {}, "text": {}, "metadata": {}},
        {"stream_options": {"include_obfuscation": False}, "top_logprobs": 0, "prompt_cache_options": {"ttl": "30m"}},
        {"tool_choice": "none", "text": {"format": {"type": "text"}, "verbosity": "medium"}, "temperature": None},
    ],
)
def test_what_asks_for_nothing_is_accepted(fields: dict[str, Any]) -> None:
    reply = InProcess(FakeEngine()).post("/v1/responses", {"model": MODEL, "input": "Hi", **fields})
    assert reply.status_code == 200, reply.text
