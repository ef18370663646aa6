"""The blocks of a conversation in Anthropic's form as the messages that chat templates read."""

from collections.abc import Sequence
from typing import Any

from octavo.core.errors import InvalidRequestError, NotBuiltError
from octavo.server.messages.schema import (
    Block,
    CountTokensRequest,
    DocumentBlock,
    ImageBlock,
    MessageParam,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

Message = dict[str, Any]


def to_messages(request: CountTokensRequest) -> list[Message]:
    """Raises `InvalidRequestError` or `NotBuiltError`."""
    if request.messages and request.messages[-1].role == "assistant":
        raise NotBuiltError(
            "messages ends with one of the assistant, to be gone on with, which is not built; end with the user's",
            param=f"messages[{len(request.messages) - 1}]",
        )
    messages = [] if request.system is None else [{"role": "system", "content": _system(request.system)}]
    for index, message in enumerate(request.messages):
        messages += _messages(message, f"messages[{index}]")
    return messages


def _system(system: str | Sequence[TextBlock]) -> str | list[Message]:
    return system if isinstance(system, str) else [_part(block) for block in system]


def _messages(message: MessageParam, where: str) -> list[Message]:
    """A message, or several: results of tools come first, one message each."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    for index, block in enumerate(message.content):
        _check_block(message.role, block, f"{where}.content[{index}]")
    if message.role == "assistant":
        return [_assistant_message(message.content)]
    results = [
        _result_message(block, f"{where}.content[{index}].content")
        for index, block in enumerate(message.content)
        if isinstance(block, ToolResultBlock)
    ]
    texts = [_part(block) for block in message.content if isinstance(block, TextBlock)]
    if not texts and results:
        return results
    return [*results, {"role": "user", "content": texts}]


def _check_block(role: str, block: Block, where: str) -> None:
    if isinstance(block, (ImageBlock, DocumentBlock)):
        raise _only_text(block, where)
    if isinstance(block, (ThinkingBlock, ToolUseBlock)) and role != "assistant":
        raise InvalidRequestError(f"{where} is for messages of the assistant; leave it out", param=where)
    if isinstance(block, ToolResultBlock) and role != "user":
        raise InvalidRequestError(f"{where} is for messages of the user; leave it out", param=where)


def _only_text(block: ImageBlock | DocumentBlock, where: str) -> InvalidRequestError:
    kind = block.__struct_config__.tag
    return InvalidRequestError(f"{where} is of type {str(kind)!r}, but this model reads text only", param=where)


def _assistant_message(blocks: Sequence[Block]) -> Message:
    texts = [_part(block) for block in blocks if isinstance(block, TextBlock)]
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.input}}
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    message: Message = {"role": "assistant", "content": texts or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _result_message(block: ToolResultBlock, where: str) -> Message:
    """A failed call's result says so in words, as chat templates have no other way."""
    parts = [{"type": "text", "text": "The call failed."}] if block.is_error else []
    if isinstance(block.content, str):
        parts.append({"type": "text", "text": block.content})
    for index, part in enumerate(block.content if isinstance(block.content, list) else ()):
        if not isinstance(part, TextBlock):
            raise _only_text(part, f"{where}[{index}]")
        parts.append(_part(part))
    content = parts[0]["text"] if len(parts) == 1 else parts
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content or ""}


def _part(block: TextBlock) -> dict[str, str]:
    return {"type": "text", "text": block.text}
