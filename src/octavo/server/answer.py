"""What answers have in common: ids, JSON, and for both kinds of completions time and usage."""

import secrets
import time
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from octavo.server.generation import GenerationCall, PromptDelta
from octavo.server.replies import Usage
from octavo.server.schemas import GenerationRequest, StreamOptions
from octavo.server.usage import UsageCounter
from octavo.server.wire import to_json

SEND_BYTES = 1 << 18
"""Of one answer, at a time."""


class Answer:
    """Follows the deltas of one request."""

    def __init__(self, request: GenerationRequest, call: GenerationCall) -> None:
        self.created_s = int(time.time())
        self._options = request.stream_options or StreamOptions()
        self._counter = UsageCounter(call.prompts)
        self._seen_prompts: set[int] = set()

    @property
    def ends_with_usage(self) -> bool:
        """Whether the stream's last chunk is one with usage and no choices."""
        return bool(self._options.include_usage)

    def count(self, item: PromptDelta) -> None:
        self._counter.add(item.prompt_index, item.delta)

    def is_first_of_prompt(self, prompt_index: int) -> bool:
        """True the first time it is asked of a prompt."""
        is_first = prompt_index not in self._seen_prompts
        self._seen_prompts.add(prompt_index)
        return is_first

    def usage(self, num_reasoning_tokens: int | None = None) -> Usage:
        return self._counter.usage(num_reasoning_tokens)

    def chunk_usage(self, num_reasoning_tokens: int | None = None) -> Usage | UnsetType | None:
        """A chunk's `usage`: the usage so far, null where only the last chunk will have it, or absent."""
        if self._options.continuous_usage_stats:
            return self._counter.usage(num_reasoning_tokens)
        return None if self._options.include_usage else UNSET


def new_id(kind: str, separator: str = "-") -> str:
    """An id that nothing else has: «cmpl-5f0c…»."""
    return f"{kind}{separator}{secrets.token_hex(16)}"


class JsonResponse(Response):
    """A reply in JSON. The event loop is given no more of it at a time than it copies in a moment."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        begins = range(0, max(1, len(self.body)), SEND_BYTES)
        for begin in begins:  # each waits until the client has taken the one before
            piece = self.body[begin : begin + SEND_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": begin != begins[-1]})


def json_response(value: Any) -> Response:
    return JsonResponse(to_json(value))
