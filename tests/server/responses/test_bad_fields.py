"""What /v1/responses says of fields that it refuses, and which ones ask for nothing."""

from typing import Any

import pytest
from server.conftest import MODEL, InProcess
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


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
