"""What clients get back. Fields that are `UNSET` are left out; None is null."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

FinishReasonText = Literal["stop", "length", "tool_calls", "content_filter"]
Written = msgspec.Raw
"""Part of a reply that is in JSON already."""
WrittenTops = Annotated[Written, msgspec.Meta(extra_json_schema={"type": "object", "description": "text → logprob"})]
WrittenToken = Annotated[Written, msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/TokenLogprob"})]
WrittenIds = Annotated[Written, msgspec.Meta(extra_json_schema={"type": "array", "items": {"type": "integer"}})]
WrittenTexts = Annotated[Written, msgspec.Meta(extra_json_schema={"type": "array", "items": {"type": "string"}})]
WrittenPrompt = Annotated[
    Written,
    msgspec.Meta(
        extra_json_schema={
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "null"},
                    {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Logprob"}},
                ]
            },
        }
    ),
]


class PromptTokensDetails(msgspec.Struct, kw_only=True):
    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, kw_only=True):
    reasoning_tokens: int


class Usage(msgspec.Struct, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    """Of chat completions."""


class CompletionLogprobs(msgspec.Struct, kw_only=True):
    """One entry a token in each list; an echoed prompt's first has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[WrittenTops | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None
    """The stop string or stop token id that ended it."""
    prompt_logprobs: WrittenPrompt | UnsetType = UNSET


class Completion(msgspec.Struct, kw_only=True):
    """An answer of /v1/completions, or a chunk of one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET


class TopLogprob(msgspec.Struct, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, kw_only=True):
    content: list[WrittenToken]
    refusal: None = None


class CalledFunction(msgspec.Struct, kw_only=True):
    name: str
    arguments: str
    """As the model wrote them; JSON, unless it failed to or was cut off."""


class ToolCall(msgspec.Struct, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    """Null where the answer is nothing but calls."""
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    """What the model thought; vLLM's name for it."""
    reasoning_content: str | UnsetType = UNSET
    """The same, under the name that DeepSeek's clients read."""


class ChatChoice(msgspec.Struct, kw_only=True):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """An answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: WrittenPrompt | UnsetType = UNSET


class CalledFunctionDelta(msgspec.Struct, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(msgspec.Struct, kw_only=True):
    """A call's first has its id, type and name; the others have fragments of its arguments."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: CalledFunctionDelta


class ChatDelta(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    """In a choice's first delta only."""
    content: str | UnsetType | None = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """A chunk of a streamed /v1/chat/completions."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class ModelCard(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    parent: None = None
    max_model_len: int
    sampling_defaults: dict[str, float]
    """What stands where a request is silent: the model's own generation_config.json, then Octavo's."""


class ModelList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class TokenizeReply(msgspec.Struct, kw_only=True):
    count: int
    max_model_len: int
    tokens: WrittenIds
    token_strs: WrittenTexts | None = None


class DetokenizeReply(msgspec.Struct, kw_only=True):
    prompt: str


class TokenizerInfo(msgspec.Struct, kw_only=True):
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


class Version(msgspec.Struct, kw_only=True):
    version: str


class Health(msgspec.Struct, kw_only=True):
    status: Literal["ok", "draining"] = "ok"


class ErrorDetail(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct, kw_only=True):
    """Every error, of any status."""

    error: ErrorDetail
