"""What clients send. Types are strict: no "1" for 1, no true for 1, no NaN; null is the same as leaving a field out.

Ranges are checked by `SamplingParams`, which every way into the engine shares.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from octavo.core.structured_outputs import StructuredOutputs
from octavo.server.fields import COMPLETIONS_NOT_BUILT, GENERATION_NOT_BUILT, TOKENIZE_NOT_BUILT, NotBuiltFields

MAX_TOOLS = 128

FunctionName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-zA-Z0-9_-]{1,64}$(?!\n)", description="names are 1 … 64 letters A-Z, digits, «_» and «-»"
    ),
]
"""Python's `$` alone would let a line break pass."""
MAX_CALLED_NAME_CHARS = 256
"""A model that writes more as a function's name calls nothing."""
CalledName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CALLED_NAME_CHARS)]
"""Of a call that is sent back: whatever the model wrote as a name, a function's or not."""


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None
    """End with a chunk that has `usage` and no choices."""
    continuous_usage_stats: bool | None = None
    """Every chunk has the usage so far."""


class TextFormat(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class JsonObjectFormat(msgspec.Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A schema and what it is called."""

    name: FunctionName
    schema: dict[str, Any] | None = None
    """Default: any JSON object."""
    description: str | None = None
    strict: bool | None = None
    """Refuse keywords that mean nothing here, rather than take them for notes."""


class JsonSchemaFormat(msgspec.Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that a schema describes."""

    json_schema: Annotated[JsonSchema, msgspec.Meta(description='write {"name": …, "schema": {…}}')]


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat,
    msgspec.Meta(description='a schema is written {"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}'),
]


class GenerationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What completions and chat completions have in common."""

    not_built: ClassVar[NotBuiltFields] = GENERATION_NOT_BUILT
    model: str
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    """The newer name of `max_tokens`; both, if they are equal."""
    min_tokens: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    """What shape the answer must have."""
    response_format: ResponseFormat | None = None
    """The same in OpenAI's words; one of the two."""
    priority: int | None = None
    """Smaller runs first; for `--scheduling-policy priority`."""
    timeout: float | None = None
    """Seconds after which it is ended; at most `--request-timeout`."""
    cache_salt: str | None = None
    """Prefixes are shared only between requests of the same salt."""


class CompletionRequest(GenerationRequest, kw_only=True, forbid_unknown_fields=True):
    """Continue a text, several, or token ids."""

    not_built: ClassVar[NotBuiltFields] = COMPLETIONS_NOT_BUILT
    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    """Accepted where it equals `n`."""


class Function(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: FunctionName
    description: Annotated[str, msgspec.Meta(max_length=1 << 14)] | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of an object; without one, any object."""
    strict: bool | None = None
    """Arguments that do not fit the schema are made impossible; a schema that calls cannot be held to is refused."""


class Tool(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the model may call."""

    type: Literal["function"]
    function: Function


WrittenTool = Annotated[
    Tool, msgspec.Meta(description='write {"type": "function", "function": {"name": …, "parameters": {…}}}')
]


class ChosenFunction(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str


class NamedToolChoice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    """That function is called, once."""

    function: ChosenFunction


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedToolChoice,
    msgspec.Meta(description='a function by name is {"type": "function", "function": {"name": …}}'),
]


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class ChatInputFunction(msgspec.Struct, kw_only=True):
    """The function that was called, as the answer said."""

    name: str
    arguments: Any = None
    """A JSON text, or the object in it."""


class ChatInputCall(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A call of an earlier answer, sent back."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    function: ChatInputFunction
    type: Literal["function"] = "function"
    index: Any = None


class ChatInputMessage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What one of those who speak said. It describes what `chat_prompt` checks."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None
    """Only the assistant's may be left out."""
    name: Any = None
    tool_calls: list[ChatInputCall] | None = None
    tool_call_id: Any = None
    """In a tool's message: the id of the call that it answers."""
    reasoning_content: Any = None
    """What the model thought; also as `reasoning` or `thinking`."""
    reasoning: Any = None
    thinking: Any = None
    annotations: Any = None
    parsed: Any = None
    refusal: None = None
    audio: None = None
    function_call: None = None


class ChatCompletionRequest(GenerationRequest, kw_only=True, forbid_unknown_fields=True):
    """Answer a conversation."""

    messages: list[dict[str, Any]]
    logprobs: Annotated[bool, msgspec.Meta(description="how many of the likeliest is top_logprobs")] | None = None
    top_logprobs: int | None = None
    tools: Annotated[list[WrittenTool], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    """auto (where there are tools), none, required, or a function by name."""
    parallel_tool_calls: bool | None = None
    """False: one call at most."""
    include_reasoning: bool | None = None
    """False: what the model thinks is left out of the answer."""
    reasoning_effort: ReasoningEffort | None = None
    """For models whose chat template reads it."""
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A prompt, or a conversation as the chat template writes it."""

    not_built: ClassVar[NotBuiltFields] = TOKENIZE_NOT_BUILT
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    """Default: true for a prompt, false for messages, whose template writes them itself."""
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Token ids whose text is wanted, special tokens included."""

    not_built: ClassVar[NotBuiltFields] = {}
    model: str | None = None
    tokens: list[int]
