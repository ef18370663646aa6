"""Errors name the field that the client sent, whatever the code calls it that found the fault."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from server import tool_templates
from server.conftest import MODEL, InProcess, chat_body
from server.envelopes import check_envelope
from server.tool_calls import serving

from octavo.core.errors import InvalidRequestError
from octavo.server.field_names import rename_field

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
LARGE = {"enum": ["x" * (1 << 17)]}
UNKNOWN = {"type": "object", "oops": 1}


def body(path: str, *, schema: Any = None, tool_schema: Any = None, **fields: Any) -> dict[str, Any]:
    """A request of any of the three with an answer's shape, or with a strict tool."""
    if path == CHAT:
        made: dict[str, Any] = chat_body()
        shape = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
        tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": tool_schema}}
    elif path == RESPONSES:
        made = {"model": MODEL, "input": "Hi"}
        shape = {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}
        tool = {"type": "function", "name": "f", "strict": True, "parameters": tool_schema}
    else:
        made = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        shape = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
        tool = {"name": "f", "strict": True, "input_schema": tool_schema}
    return {**made, **(shape if schema is not None else {}), **({"tools": [tool]} if tool_schema else {}), **fields}


def check_names(server: InProcess, path: str, sent: dict[str, Any], param: str, message: str) -> None:
    """The message begins with `message`; Anthropic's errors have no param."""
    reply = server.post(path, sent)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"] if path == MESSAGES else check_envelope(reply, 400, param)
    assert error["message"].startswith(f"{message} ") and "structured_outputs" not in error["message"]


@pytest.mark.parametrize(
    ("path", "field"), [(CHAT, "response_format"), (RESPONSES, "text.format"), (MESSAGES, "output_config.format")]
)
def test_a_shape_at_fault(server: InProcess, path: str, field: str) -> None:
    check_names(server, path, body(path, schema=LARGE), field, field)

    async def refuse(*args: Any, **options: Any) -> AsyncIterator[Any]:
        raise InvalidRequestError("structured_outputs cannot be followed: so it is", param="structured_outputs")
        yield

    server.engine.generate = refuse  # type: ignore[method-assign]
    check_names(server, path, body(path, schema={}), field, f"{field} cannot be followed:")
    check_names(server, path, body(path, schema={}, stream=True), field, field)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (CHAT, "tools[0].function.parameters"),
        (RESPONSES, "tools[0].parameters"),
        (MESSAGES, "tools[0].input_schema"),
    ],
)
def test_a_tool_at_fault(path: str, parameters: str) -> None:
    server = serving(tool_templates.QWEN3)
    text = {CHAT: {"response_format": {"type": "text"}}, RESPONSES: {"text": {"format": {"type": "text"}}}}.get(
        path, {}
    )
    check_names(server, path, body(path, tool_schema=UNKNOWN, **text), parameters, parameters)

    async def refuse(*args: Any, **options: Any) -> AsyncIterator[Any]:
        raise InvalidRequestError("structured_outputs took more than 2 s to compile", param="structured_outputs")
        yield

    server.engine.generate = refuse  # type: ignore[method-assign]
    check_names(server, path, body(path, tool_schema={"type": "object"}, **text), "tools", "tools took")


@pytest.mark.parametrize(
    ("path", "field"), [(CHAT, "response_format"), (RESPONSES, "text.format"), (MESSAGES, "output_config.format")]
)
def test_in_a_stream(server: InProcess, path: str, field: str) -> None:
    generate = server.engine.generate

    async def break_off(*args: Any, **options: Any) -> AsyncIterator[Any]:
        async for delta in generate(*args, **options):
            yield delta
            raise InvalidRequestError("structured_outputs cannot be followed: so it is")

    server.engine.generate = break_off  # type: ignore[method-assign]
    reply = server.post(path, body(path, schema={}, stream=True))
    assert reply.status_code == 200
    assert f'"message":"{field} cannot be followed: so it is"' in reply.text


def test_a_call_that_is_sent_back_is_named_by_its_item() -> None:
    server = serving(tool_templates.QWEN3)
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    sent = {"model": MODEL, "instructions": "Be brief.", "input": [{"role": "user", "content": "Hi"}, call]}
    answer = server.post(RESPONSES, {**sent, "input": "Hi"}).json()
    sent["previous_response_id"] = answer["id"]
    sent["input"] += [{**call, "call_id": "d", "arguments": "{"}]  # type: ignore[operator]
    check_names(server, RESPONSES, sent, "input[2].arguments", "input[2].arguments is not JSON:")


def test_a_name_is_changed_where_the_message_begins_with_it() -> None:
    names = (("max_tokens", "max_output_tokens"), (r"tools\[\d+\]\.function(?=\.)", "tool"))
    for message, param, want, want_param in (
        ("max_tokens=5 is more", "max_tokens", "max_output_tokens=5 is more", "max_output_tokens"),
        ("max_tokens_2 is odd", "max_tokens", "max_tokens_2 is odd", "max_output_tokens"),
        ("this has max_tokens", "max_tokens", "this has max_tokens", "max_output_tokens"),
        ("max_tokens is what nobody named", None, "max_output_tokens is what nobody named", "max_output_tokens"),
        ("tools[1].function.name is odd", "tools[1].function.name", "tool.name is odd", "tool.name"),
        ("tools[1].function is odd", "tools[1].function", "tools[1].function is odd", "tools[1].function"),
        ("n=0", "n", "n=0", "n"),
    ):
        error = InvalidRequestError(message, param=param)
        rename_field(error, names)
        assert (error.message, error.param) == (want, want_param)
