"""A conversation to a prompt: messages checked, and written by the model's template."""

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from octavo.core.errors import InvalidRequestError
from octavo.server.context import ServerContext
from octavo.server.errors import not_built
from octavo.server.field_errors import unknown_field
from octavo.server.tools.tool_use import ToolUse

Tokenized = TypeVar("Tokenized")
_READ = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
)
_SENT_BACK = frozenset(("annotations", "parsed"))
"""What answers have, or openai's `parse` adds to them, and clients send back with the conversation: no template's matter."""
_NULL_ONLY = frozenset(("refusal", "audio", "function_call"))
_KNOWN = _READ | _SENT_BACK | _NULL_ONLY
_CALL_FIELDS = frozenset(("id", "type", "function", "index"))
_PARSED_ARGUMENTS = "parsed_arguments"
"""What openai's `parse` made of a call's arguments."""


async def chat_prompt(
    context: ServerContext,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    template_kwargs: Mapping[str, Any],
    client: str,
    tool_use: ToolUse | None = None,
) -> str:
    """The conversation as the model reads it; special tokens are in it. Raises `InvalidRequestError`."""
    known = await context.engine.texts.read_chat(_known_messages, messages, client=client)
    return await context.engine.texts.render_chat(
        known,
        add_generation_prompt=add_generation_prompt,
        chat_template_kwargs=template_kwargs,
        client=client,
        **_tool_options(context, known, tool_use),
    )


async def of_messages(tokenized: Awaitable[Tokenized]) -> Tokenized:
    """What a conversation's text has been made into; what is wrong with the text is wrong with the messages."""
    try:
        return await tokenized
    except InvalidRequestError as error:
        error.param = "messages"
        raise


def _tool_options(
    context: ServerContext, messages: Sequence[Mapping[str, Any]], tool_use: ToolUse | None
) -> dict[str, Any]:
    """How the prompt is told of tools: by the chat template, or for one that knows none in words."""
    write_messages = context.answer_format.tools.write_messages
    if write_messages is None:
        return {"tools": None if tool_use is None else tool_use.for_template()}
    if tool_use is None and not any(message.get("tool_calls") or message.get("role") == "tool" for message in messages):
        return {}
    return {"rewrite": partial(write_messages, () if tool_use is None else tool_use.functions)}


def _known_messages(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Not for the event loop: there may be many."""
    return [_known_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _known_message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that a template may read, without those that are null."""
    known = {}
    for name, value in message.items():
        if name in _NULL_ONLY and value is not None:
            raise not_built(400, f"{where}.{name} is not built yet; leave it out", param=f"{where}.{name}")
        if name not in _KNOWN:
            raise unknown_field(where, name, sorted(_READ))
        if name in _READ and value is not None:
            known[name] = value
    _check_tool_fields(known, where)
    calls = known.get("tool_calls")
    if isinstance(calls, list):
        known["tool_calls"] = [_known_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)]
    return known


def _check_tool_fields(message: Mapping[str, Any], where: str) -> None:
    """Calls are the assistant's; a result says which call it answers."""
    role = message.get("role")
    if role == "tool" and not (isinstance(message.get("tool_call_id"), str) and message["tool_call_id"]):
        raise InvalidRequestError(
            f"{where}.tool_call_id is missing; a tool's message needs the id of the call that it answers",
            param=f"{where}.tool_call_id",
        )
    if message.get("tool_calls") and role != "assistant":
        raise InvalidRequestError(
            f"{where}.tool_calls is for messages of the assistant; leave it out", param=f"{where}.tool_calls"
        )


def _known_call(call: Any, where: str) -> dict[str, Any]:
    """A call has an id, by which its result is found."""
    if not isinstance(call, dict) or not isinstance(call.get("id"), str) or not call["id"]:
        raise InvalidRequestError(f"{where}.id is missing; a call needs the id it had in the answer", param=where)
    if call.get("type", "function") != "function" or not call.keys() <= _CALL_FIELDS:
        raise InvalidRequestError(
            f'{where} must be {{"id": …, "type": "function", "function": {{"name": …, "arguments": …}}}}', param=where
        )
    function = call.get("function")
    if not isinstance(function, dict) or _PARSED_ARGUMENTS not in function:
        return call
    return {**call, "function": {name: value for name, value in function.items() if name != _PARSED_ARGUMENTS}}
