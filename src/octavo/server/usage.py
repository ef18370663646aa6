"""Tokens of one HTTP request, counted as its deltas come."""

from collections.abc import Sequence

from msgspec import UNSET

from octavo.core.outputs import RequestDelta
from octavo.server.replies import CompletionTokensDetails, PromptTokensDetails, Usage


class UsageCounter:
    """Prompts count once each, however many samples are drawn from them."""

    def __init__(self, prompts: Sequence[list[int]]) -> None:
        self._num_prompt_tokens = sum(map(len, prompts))
        self._num_completion_tokens = 0
        self._num_cached_tokens = [0] * len(prompts)

    def add(self, prompt_index: int, delta: RequestDelta) -> None:
        self._num_completion_tokens += sum(len(piece.token_ids) for piece in delta.outputs)
        self._num_cached_tokens[prompt_index] = max(self._num_cached_tokens[prompt_index], delta.num_cached_tokens)

    def usage(self, num_reasoning_tokens: int | None = None) -> Usage:
        """`num_reasoning_tokens` of those that were generated, for endpoints that tell."""
        return Usage(
            prompt_tokens=self._num_prompt_tokens,
            completion_tokens=self._num_completion_tokens,
            total_tokens=self._num_prompt_tokens + self._num_completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(self._num_cached_tokens)),
            completion_tokens_details=(
                UNSET
                if num_reasoning_tokens is None
                else CompletionTokensDetails(reasoning_tokens=num_reasoning_tokens)
            ),
        )
