"""What clients of /v1/messages get back, whole and as events."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextContent(msgspec.Struct, kw_only=True, tag_field="type", tag="text"):
    text: str


class ThinkingContent(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought. It is not signed: it comes back as it is, or not at all."""

    thinking: str
    signature: str = ""


class ToolUseContent(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Content = TextContent | ThinkingContent | ToolUseContent


class OutputTokens(msgspec.Struct, kw_only=True):
    thinking_tokens: int
    """The markers around the thinking included."""


class MessagesUsage(msgspec.Struct, kw_only=True):
    """The prompt's tokens are those computed and those read from the prefix cache, together."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokens


class ModelMessage(msgspec.Struct, kw_only=True):
    """An answer of /v1/messages."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Content]
    stop_reason: StopReason | None
    stop_sequence: str | None = None
    usage: MessagesUsage


class TextDeltaContent(msgspec.Struct, kw_only=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDeltaContent(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class InputJsonDelta(msgspec.Struct, kw_only=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


ContentDelta = TextDeltaContent | ThinkingDeltaContent | InputJsonDelta


class MessagesError(msgspec.Struct, kw_only=True):
    type: str
    message: str


class MessagesErrorReply(msgspec.Struct, kw_only=True):
    """Every error of these routes, of any status; also an event."""

    type: Literal["error"] = "error"
    error: MessagesError
    request_id: str


class MessagesEvent(msgspec.Struct, kw_only=True):
    """An event of a streamed message: which fields it has follows from its type."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_stop",
    ]
    message: ModelMessage | UnsetType = UNSET
    index: int | UnsetType = UNSET
    content_block: Content | UnsetType = UNSET
    delta: ContentDelta | UnsetType = UNSET


class MessageEnd(msgspec.Struct, kw_only=True):
    """Why the message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageEndEvent(msgspec.Struct, kw_only=True):
    """The event before the last of a streamed message."""

    type: Literal["message_delta"] = "message_delta"
    delta: MessageEnd
    usage: MessagesUsage


class TokenCount(msgspec.Struct, kw_only=True):
    input_tokens: int
