"""Items of a response's input and output as the messages of a conversation."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.server.body import convert_part
from octavo.server.responses.replies import FunctionCallItem, MessageItem, OutputItem
from octavo.server.responses.schema import (
    InputFunctionCall,
    InputFunctionCallOutput,
    InputItem,
    InputMessage,
    InputPart,
    InputText,
    OutputTextSentBack,
)

Message = dict[str, Any]


class MessageList:
    """Messages, of which the assistant's text and the calls after it are one. Reasoning is left out.

    Owns the messages that it is given.
    """

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.messages = list(messages)
        self.calls: dict[str, str] = {}
        """Which item of the input each call's function is, for errors."""

    def add_input(self, given: str | Sequence[dict[str, Any]]) -> None:
        """Raises `InvalidRequestError`."""
        if isinstance(given, str):
            self.messages.append({"role": "user", "content": given})
            return
        for index, item in enumerate(given):
            where = f"input[{index}]"
            named = item if "type" in item else {"type": "message", **item}
            self._add_item(convert_part(named, InputItem, where), where)  # type: ignore[arg-type]

    def add_output(self, items: Sequence[OutputItem]) -> None:
        """What an answer said and called. Arguments that are no JSON are left out, as no chat template can write them."""
        for item in items:
            if isinstance(item, MessageItem):
                self._add_message("assistant", "".join(part.text for part in item.content))
            elif isinstance(item, FunctionCallItem):
                self._add_call(item.call_id, item.name, item.arguments if _is_json(item.arguments) else "{}")

    def _add_item(self, item: InputItem, where: str) -> None:
        if isinstance(item, InputMessage):
            self._add_message(item.role, _content(item.content, f"{where}.content"))
        elif isinstance(item, InputFunctionCall):
            self._add_call(item.call_id, item.name, item.arguments)
            self.calls[_path_of_last_call(self.messages)] = where
        elif isinstance(item, InputFunctionCallOutput):
            output = _content(item.output, f"{where}.output")
            self.messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})

    def _add_message(self, role: str, content: str | list[dict[str, str]]) -> None:
        self.messages.append({"role": role, "content": content})

    def _add_call(self, call_id: str, name: str, arguments: str) -> None:
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self.messages[-1].setdefault("tool_calls", []).append(call)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def pack(messages: Sequence[Message]) -> bytes:
    return msgspec.json.encode(messages)


def unpack(packed: bytes) -> list[Message]:
    return msgspec.json.decode(packed, type=list[Message])


def _path_of_last_call(messages: Sequence[Message]) -> str:
    return f"messages[{len(messages) - 1}].tool_calls[{len(messages[-1]['tool_calls']) - 1}].function"


def _content(content: str | Sequence[InputPart], where: str) -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content
    parts = []
    for index, part in enumerate(content):
        if not isinstance(part, (InputText, OutputTextSentBack)):
            kind = part.__struct_config__.tag
            at = f"{where}[{index}]"
            raise InvalidRequestError(f"{at} is of type {str(kind)!r}, but this model reads text only", param=at)
        parts.append({"type": "text", "text": part.text})
    return parts
