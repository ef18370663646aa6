"""What is said of a field that is not as it should be: what is allowed there, or how it is written."""

from typing import Any

import pytest
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope, check_error
from server.fake_engine import FakeEngine

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: chat_body(),
    COMPLETIONS: {"model": MODEL, "prompt": "Hi"},
    RESPONSES: {"model": MODEL, "input": "Hi"},
    MESSAGES: {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]},
}
CHAT_TOOL = {"type": "function", "function": {"name": "f"}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {}}
SCHEMA = {"type": "object", "properties": {}}


@pytest.fixture(scope="module")
def refusing() -> InProcess:
    return InProcess(FakeEngine())


@pytest.mark.parametrize(
    ("path", "fields", "param", "words"),
    [
        (CHAT, {"tool_choice": "any"}, "tool_choice", "='any' is not allowed; allowed are auto, none, required; a function"),
        (CHAT, {"tool_choice": {"type": "foo"}}, "tool_choice.type", "='foo' is not allowed; allowed is function"),
        (CHAT, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type", "allowed is function"),
        (CHAT, {"response_format": {"type": "json"}}, "response_format.type", "allowed are text, json_object, json_schema"),
        (CHAT, {"response_format": {}}, "response_format.type", " is missing; allowed are text,"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
         "response_format.json_schema.name", ' is missing; write {"name": …, "schema": {…}}'),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "1 … 64 letters"),
        (CHAT, {"logprobs": 2}, "logprobs", "top_logprobs"),
        (CHAT, {"reasoning_effort": "x" * 999}, "reasoning_effort", "allowed are high, low"),
        (CHAT, {"messages": [{"content": "x"}]}, "messages[0].role", " is missing; allowed are system, developer,"),
        (CHAT, {"top_k": -2}, "top_k", "from -1 to"),
        (CHAT, {"structured_outputs": {"choice": []}}, "structured_outputs", ".choice must be a list"),
        (CHAT, {"structured_outputs": {"json_object": False}}, "structured_outputs", ".json_object must be true"),
        (CHAT, {"logit_bias": {"x": 1}}, "logit_bias", " (a key): expected int, got str"),
        (RESPONSES, {"text": {"verbosity": "low"}}, "text.verbosity", "allowed is medium"),
        (RESPONSES, {"input": [{"type": "foo"}]}, "input[0].type", "allowed are message, function_call,"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "text"}]}]}, "input[0].content[0].type", "input_text"),
        (MESSAGES, {"messages": [{"role": "system", "content": "x"}]}, "messages[0].role", "the field system"),
        (MESSAGES, {"tools": [CHAT_TOOL]}, "tools[0]", 'write {"name": …, "input_schema": {…}}'),
        (MESSAGES, {"tool_choice": "auto"}, "tool_choice", 'write {"type": "auto"}'),
        (CHAT, {"functions": [{}]}, "functions", " is not built yet; use tools"),
        (COMPLETIONS, {"guided_choice": ["a"]}, "guided_choice", "use structured_outputs.choice"),
        (COMPLETIONS, {"suffix": "x"}, "suffix", ' is not built yet; leave it out or send ""'),
        (RESPONSES, {"prompt": {"id": "x"}}, "prompt", " is not built yet"),
    ],
)  # fmt: skip
def test_the_message_begins_with_the_field_and_says_what_is_allowed(
    refusing: InProcess, path: str, fields: dict[str, Any], param: str, words: str
) -> None:
    reply = refusing.post(path, {**BODIES[path], **fields})
    message = reply.json()["error"]["message"]
    assert message.startswith(param) and words in message[len(param) :], message
    if path == MESSAGES:
        check_error(reply, 400)
    else:
        check_envelope(reply, 400, param)


@pytest.mark.parametrize(
    ("path", "fields", "param", "hint"),
    [
        (CHAT, {"temprature": 1}, "temprature", "did you mean temperature?"),
        (CHAT, {"structured_outputs": {"regx": "a"}}, "structured_outputs.regx", "did you mean regex?"),
        (CHAT, {"stream_options": {"usage": True}}, "stream_options.usage", "known are include_usage, continuous_usage_stats"),
        (CHAT, {"messages": [{"role": "user", "content": "x", "nam": "A"}]}, "messages[0].nam", "did you mean name?"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, "response_format.json_schema.type",
         'write {"name": …, "schema": {…}}'),
        (CHAT, {"response_format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}, "response_format.name",
         'a schema is written {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}'),
        (CHAT, {"tools": [FLAT_TOOL]}, "tools[0].name", 'write {"type": "function", "function": {"name": …'),
        (CHAT, {"prompt": "x"}, "prompt", "known are model, n,"),
        (RESPONSES, {"tools": [CHAT_TOOL]}, "tools[0].function", 'write {"type": "function", "name": …'),
        (RESPONSES, {"max_tokens": 3}, "max_tokens", "did you mean max_output_tokens?"),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "text.format.json_schema",
         'a schema is written {"type": "json_schema", "name": …, "schema": {…}}'),
    ],
)  # fmt: skip
def test_an_unknown_field_has_its_code_and_a_hint_wherever_it_stands(
    refusing: InProcess, path: str, fields: dict[str, Any], param: str, hint: str
) -> None:
    error = check_envelope(refusing.post(path, {**BODIES[path], **fields}), 400, param, "unknown_parameter")
    said = f"{param} is an unknown field" if "." in param else f"unknown field {param!r}"
    assert error["message"].startswith(f"{said}; {hint}")


def test_token_ids_are_named_as_the_client_calls_them(refusing: InProcess) -> None:
    error = check_envelope(refusing.post("/detokenize", {"tokens": [99_999]}), 400, "tokens")
    assert error["message"].startswith("tokens has token id 99999;")


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/chat/completions/", "/v1/v1/chat/completions", "/v1/chat/completion"]
)
def test_a_route_that_is_nearly_right(refusing: InProcess, path: str) -> None:
    error = check_envelope(refusing.post(path, {}), 404, code="not_found")
    assert error["message"] == f"there is no route {path}; did you mean /v1/chat/completions?"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "is missing"),
        ({"authorization": "key-a"}, "lacks the word Bearer"),
        ({"authorization": "Bearer key-b"}, "is wrong"),
        ({"authorization": "Bearer key-a", "x-api-key": "key-b"}, "is there twice"),
    ],
)
def test_what_is_wrong_with_a_key(headers: dict[str, str], words: str) -> None:
    server = InProcess(FakeEngine(), api_key=("key-a",))
    reply = server.request("GET", "/v1/models", headers=headers)
    assert words in check_envelope(reply, 401)["message"]
