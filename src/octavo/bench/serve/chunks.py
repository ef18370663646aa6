"""What a chunk of a streamed completion tells a benchmark; servers' other fields are passed over."""

from typing import Any

import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None

    @property
    def has_output(self) -> bool:
        delta = self.delta or _Delta()
        return bool(self.text or delta.content or delta.reasoning or delta.reasoning_content or delta.tool_calls)


class _PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens as the server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptTokensDetails | None = None


class Chunk(msgspec.Struct):
    """Of /v1/completions or /v1/chat/completions."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None

    @property
    def has_output(self) -> bool:
        """Whether a reader sees something new: not so for a role, a reason to finish, or text held back."""
        return any(choice.has_output for choice in self.choices)

    @property
    def is_last_of_answer(self) -> bool:
        return any(choice.finish_reason for choice in self.choices)


_DECODER = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """Raises `msgspec.DecodeError` for what is no chunk."""
    return _DECODER.decode(data)


def error_message(error: Any) -> str:
    """Of an error's body in OpenAI's form, or in another."""
    inner = error.get("error", error) if isinstance(error, dict) else error
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(message).split())[:_MAX_MESSAGE_CHARS]


_MAX_MESSAGE_CHARS = 300
