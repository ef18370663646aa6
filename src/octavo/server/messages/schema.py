"""What clients send to /v1/messages and /v1/messages/count_tokens."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from octavo.core.sampling_params import MAX_STOP_CHARS, MAX_STOP_STRINGS
from octavo.server.fields import MESSAGES_NOT_BUILT, NotBuiltFields
from octavo.server.schemas import MAX_TOOLS, CalledName, FunctionName

_CacheControl = dict[str, Any]
"""Where a prefix should be cached. Prefixes are cached wherever they end, so it asks for nothing."""


class TextBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str
    cache_control: _CacheControl | None = None
    citations: list[Any] | None = None
    """Of an earlier answer."""


class ThinkingBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking", forbid_unknown_fields=True):
    """What the model thought before an earlier answer, sent back."""

    thinking: str
    signature: str | None = None


class ToolUseBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    """A call of an earlier answer, sent back."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    name: CalledName
    input: dict[str, Any]
    cache_control: _CacheControl | None = None


class ImageBlock(msgspec.Struct, tag_field="type", tag="image"):
    """Refused by name: the model reads text."""


class DocumentBlock(msgspec.Struct, tag_field="type", tag="document"):
    """Refused by name: the model reads text."""


class ToolResultBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_result", forbid_unknown_fields=True):
    """What a call came to."""

    tool_use_id: Annotated[str, msgspec.Meta(min_length=1)]
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None
    """True: the model is told that the call failed."""
    cache_control: _CacheControl | None = None


Block = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | ImageBlock | DocumentBlock


class MessageParam(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What one of the two said."""

    role: Annotated[Literal["user", "assistant"], msgspec.Meta(description="system messages go into the field system")]
    content: str | list[Block]


class ClientTool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: FunctionName
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: Annotated[str, msgspec.Meta(max_length=1 << 14)] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    """Arguments are streamed as they are written, whatever it says."""
    cache_control: _CacheControl | None = None


WrittenTool = Annotated[ClientTool, msgspec.Meta(description='write {"name": …, "input_schema": {…}}')]


class AutoChoice(msgspec.Struct, kw_only=True, tag_field="type", tag="auto", forbid_unknown_fields=True):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(msgspec.Struct, kw_only=True, tag_field="type", tag="any", forbid_unknown_fields=True):
    disable_parallel_tool_use: bool | None = None


class ToolChoice(msgspec.Struct, kw_only=True, tag_field="type", tag="tool", forbid_unknown_fields=True):
    """That tool is called, once."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoChoice(msgspec.Struct, kw_only=True, tag_field="type", tag="none", forbid_unknown_fields=True):
    pass


class ThinkingOn(msgspec.Struct, kw_only=True, tag_field="type", tag="enabled", forbid_unknown_fields=True):
    """For models whose chat template reads the budget."""

    budget_tokens: Annotated[int, msgspec.Meta(ge=1)]
    display: Literal["summarized"] | None = None
    """Thinking is shown, as it is."""


class ThinkingOff(msgspec.Struct, kw_only=True, tag_field="type", tag="disabled", forbid_unknown_fields=True):
    """For models that do not think, or whose chat template reads that they should not."""


class ThinkingAsItComes(msgspec.Struct, kw_only=True, tag_field="type", tag="adaptive", forbid_unknown_fields=True):
    """The default: the model decides."""

    display: Literal["summarized"] | None = None
    """Thinking is shown, as it is."""


class JsonOutputFormat(msgspec.Struct, kw_only=True, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that a schema describes; keywords that mean nothing here are refused."""

    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    format: JsonOutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """For models whose chat template reads it."""


class CountTokensRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many tokens the same request to /v1/messages would be."""

    not_built: ClassVar[NotBuiltFields] = MESSAGES_NOT_BUILT
    model: str
    messages: list[MessageParam]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    """Tools of the client's own; those of other types are refused by name."""
    tool_choice: (
        Annotated[
            AutoChoice | AnyChoice | ToolChoice | NoChoice,
            msgspec.Meta(description='write {"type": "auto"}, or {"type": "tool", "name": …}'),
        ]
        | None
    ) = None
    thinking: ThinkingOn | ThinkingOff | ThinkingAsItComes | None = None
    output_config: OutputConfig | None = None
    cache_control: _CacheControl | None = None


class MessagesRequest(CountTokensRequest, kw_only=True, forbid_unknown_fields=True):
    """Answer a conversation."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stop_sequences: (
        Annotated[
            list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]],
            msgspec.Meta(max_length=MAX_STOP_STRINGS),
        ]
        | None
    ) = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool | None = None
    priority: int | None = None
    """Smaller runs first; for `--scheduling-policy priority`."""
    timeout: float | None = None
    """Seconds after which it is ended; at most `--request-timeout`."""
    cache_salt: str | None = None
    """Prefixes are shared only between requests of the same salt."""
