"""What clients send to /v1/responses."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from octavo.server.fields import RESPONSES_NOT_BUILT, NotBuiltFields
from octavo.server.schemas import (
    MAX_TOOLS,
    CalledName,
    FunctionName,
    JsonObjectFormat,
    ReasoningEffort,
    TextFormat,
)


class InputText(msgspec.Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    text: str


class OutputTextSentBack(msgspec.Struct, kw_only=True, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """Part of an earlier answer."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None
    """What openai's `parse` made of the text, which it sends along."""


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    """Refused by name: the model reads text."""


class InputFile(msgspec.Struct, tag_field="type", tag="input_file"):
    """Refused by name: the model reads text."""


class InputAudio(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Refused by name: the model reads text."""


InputPart = InputText | OutputTextSentBack | InputImage | InputFile | InputAudio


class InputMessage(msgspec.Struct, kw_only=True, tag_field="type", tag="message", forbid_unknown_fields=True):
    """A message; `type` may be left out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputFunctionCall(
    msgspec.Struct, kw_only=True, tag_field="type", tag="function_call", forbid_unknown_fields=True
):
    """A call of an earlier answer, sent back."""

    call_id: Annotated[str, msgspec.Meta(min_length=1)]
    name: CalledName
    arguments: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputFunctionCallOutput(
    msgspec.Struct, kw_only=True, tag_field="type", tag="function_call_output", forbid_unknown_fields=True
):
    """What a call came to."""

    call_id: Annotated[str, msgspec.Meta(min_length=1)]
    output: str | list[InputPart]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputReasoning(msgspec.Struct, tag_field="type", tag="reasoning"):
    """What the model thought before an earlier answer: passed over, as models are trained to do without."""


InputItem = InputMessage | InputFunctionCall | InputFunctionCallOutput | InputReasoning


class FlatFunction(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    type: Literal["function"]
    name: FunctionName
    description: Annotated[str, msgspec.Meta(max_length=1 << 14)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


WrittenFunction = Annotated[
    FlatFunction, msgspec.Meta(description='write {"type": "function", "name": …, "parameters": {…}}')
]


class ChosenFlatFunction(msgspec.Struct, kw_only=True, tag_field="type", tag="function", forbid_unknown_fields=True):
    """That function is called, once."""

    name: str


class FlatJsonSchemaFormat(
    msgspec.Struct, kw_only=True, tag_field="type", tag="json_schema", forbid_unknown_fields=True
):
    """JSON that a schema describes."""

    name: FunctionName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What shape the answer's text has."""

    format: (
        Annotated[
            TextFormat | JsonObjectFormat | FlatJsonSchemaFormat,
            msgspec.Meta(description='a schema is written {"type": "json_schema", "name": …, "schema": {…}}'),
        ]
        | None
    ) = None
    verbosity: Literal["medium"] | None = None
    """Others are not built."""


class ReasoningOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    effort: ReasoningEffort | None = None
    """For models whose chat template reads it."""
    summary: str | None = None
    """Not built: refused by name. What the model thought is shown as it is."""


class ResponsesRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Answer a conversation, and keep it."""

    not_built: ClassVar[NotBuiltFields] = RESPONSES_NOT_BUILT
    model: str
    input: str | list[dict[str, Any]]
    """A user's text, or items: messages, function calls and what they came to, reasoning."""
    instructions: str | None = None
    """The system message of this answer alone: it does not come back through `previous_response_id`."""
    previous_response_id: str | None = None
    """Go on from that answer."""
    store: bool | None = None
    """Default: true. Keep the answer, in memory and for a while."""
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    """Functions; tools of other types are refused by name."""
    tool_choice: (
        Annotated[
            Literal["none", "auto", "required"] | ChosenFlatFunction,
            msgspec.Meta(description='a function by name is {"type": "function", "name": …}'),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    """False: one call at most."""
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, msgspec.Meta(max_length=64)],
                Annotated[str, msgspec.Meta(max_length=512)],
            ],
            msgspec.Meta(max_length=16),
        ]
        | None
    ) = None
    """Comes back with the answer."""
    stream: bool | None = None
    priority: int | None = None
    """Smaller runs first; for `--scheduling-policy priority`."""
    timeout: float | None = None
    """Seconds after which it is ended; at most `--request-timeout`."""
    cache_salt: str | None = None
    """Prefixes are shared only between requests of the same salt."""
