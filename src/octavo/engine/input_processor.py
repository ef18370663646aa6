"""From a prompt to a checked `EngineRequest`: tokenise, bound, fill in what was left open."""

import hashlib
import itertools
import secrets
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from octavo.core.errors import ContextLengthError, InvalidRequestError
from octavo.core.messages import EngineRequest
from octavo.core.sampling_params import SamplingParams
from octavo.tokenizer.tokenizer import Tokenizer

Prompt = str | Sequence[int]
"""Text, or token ids."""

MAX_PRIORITY = 1 << 31
MAX_CHARS_A_TOKEN = 16
"""A prompt may have so many characters for each token of the context: some take a tokenizer microseconds each."""
MAX_COUNTED_BYTES = 6 << 20
"""Of UTF-8, in a text whose tokens are only counted or listed, however short the context: each may become a token, of which
a tokenizer keeps some 150 bytes until all are there.
"""
MAX_LISTED_TOKENS = 1_250_000
"""Of a text that no request could carry: to make a list of them holds the interpreter's lock for some 30 ns each."""

_BAD_WORD_LISTS = 16
"""So many are known again: the prompts of one request have theirs in common."""


class InputProcessor:
    """Checks requests against the model's vocabulary and context. Thread-safe but for the order of seeds."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        *,
        vocab_size: int,
        max_model_len: int,
        eos_token_ids: Iterable[int],
        has_priorities: bool,
        seed: int | None,
    ) -> None:
        self.tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._eos_token_ids = sorted(eos_token_ids)
        self._has_priorities = has_priorities
        self._seed = seed
        self._numbers = itertools.count(1)
        self._bad_word_variants = None
        if tokenizer is not None:
            self._bad_word_variants = lru_cache(_BAD_WORD_LISTS)(partial(_bad_word_variants, tokenizer))

    def tokenize(self, prompt: Prompt, *, add_special_tokens: bool = True) -> list[int]:
        """The prompt's token ids. Raises `InvalidRequestError` or `ContextLengthError`."""
        token_ids: list[int]
        if isinstance(prompt, str):
            tokenizer = self._text_tokenizer()
            self._check_prompt_chars(prompt)
            token_ids = tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
        elif isinstance(prompt, Sequence) and not isinstance(prompt, (str, bytes)):
            token_ids = list(prompt)
        else:
            raise InvalidRequestError(
                f"a prompt has type {type(prompt).__name__}; give a string or a list of token ids", param="prompt"
            )
        self._check_token_ids(token_ids)
        return token_ids

    def count_tokens(self, text: str, *, add_special_tokens: bool = True) -> int:
        """How many tokens a text has, fit it the context or not. Raises `InvalidRequestError` or `ContextLengthError`."""
        self._check_counted_bytes(text)
        return self._text_tokenizer().count(text, add_special_tokens=add_special_tokens)

    def list_tokens(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text, fit it the context or not. Raises `InvalidRequestError` or `ContextLengthError`."""
        self._check_counted_bytes(text)
        most = max(MAX_LISTED_TOKENS, self._max_model_len)
        return self._text_tokenizer().encode(text, add_special_tokens=add_special_tokens, max_tokens=most)

    def process(
        self,
        request_id: str,
        prompt_token_ids: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        client: str = "",
    ) -> EngineRequest:
        """A request the engine can run: the one gate where everything is checked.

        Raises `InvalidRequestError` or `ContextLengthError`.
        """
        self._check_token_ids(prompt_token_ids)
        self._check_priority(priority)
        check_text("cache_salt", cache_salt)
        check_text("client", client)
        return EngineRequest(
            request_id,
            prompt_token_ids,
            self._complete(params),
            seed=self._next_seed() if params.seed is None else params.seed % (1 << 64),
            max_tokens=self._max_tokens(len(prompt_token_ids), params),
            eos_token_ids=self._eos_token_ids,
            arrival_s=time.monotonic(),
            priority=priority,
            cache_salt=cache_salt,
            client=client,
        )

    def _check_token_ids(self, token_ids: Sequence[int]) -> None:
        if not token_ids:
            raise InvalidRequestError("the prompt is empty; give at least one token", param="prompt")
        for token in token_ids:
            if type(token) is not int or not 0 <= token < self._vocab_size:
                raise InvalidRequestError(
                    f"prompt has token id {token!r}; ids of this model are integers 0 … {self._vocab_size - 1}",
                    param="prompt",
                )

    def _check_priority(self, priority: int) -> None:
        if type(priority) is not int or not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise InvalidRequestError(f"priority={priority!r} is not an integer in ±{MAX_PRIORITY}", param="priority")
        if priority and not self._has_priorities:
            raise InvalidRequestError(
                f"priority={priority} would be ignored; start the engine with scheduling_policy=priority",
                param="priority",
            )

    def _text_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise InvalidRequestError(
                "the prompt is text but skip_tokenizer_init=True, so there is no tokenizer; give token ids",
                param="prompt",
            )
        return self.tokenizer

    @property
    def _max_prompt_chars(self) -> int:
        """A text that is longer hardly ever fits the context, and one that would is refused as well."""
        return self._max_model_len * MAX_CHARS_A_TOKEN

    def _check_counted_bytes(self, text: str) -> None:
        limit = max(MAX_COUNTED_BYTES, self._max_prompt_chars)
        num_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if num_bytes > limit:
            raise ContextLengthError(
                f"the text has {num_bytes} bytes; at most {limit} are counted at a time; send it in parts",
                param="prompt",
            )

    def _check_prompt_chars(self, text: str) -> None:
        limit = self._max_prompt_chars
        if len(text) > limit:
            raise ContextLengthError(
                f"the prompt has {len(text)} characters; with a context of {self._max_model_len} tokens at most {limit} are "
                "taken; shorten it",
                param="prompt",
            )

    def _max_tokens(self, num_prompt_tokens: int, params: SamplingParams) -> int:
        room = self._max_model_len - num_prompt_tokens
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {num_prompt_tokens} tokens and the context holds {self._max_model_len}, output "
                "included; shorten the prompt",
                param="prompt",
            )
        if params.min_tokens > room:
            raise ContextLengthError(
                f"min_tokens={params.min_tokens} with a prompt of {num_prompt_tokens} tokens is more than the context of "
                f"{self._max_model_len}; lower it to at most {room}",
                param="min_tokens",
            )
        if params.max_tokens is None:
            return room
        if params.max_tokens > room:
            raise ContextLengthError(
                f"max_tokens={params.max_tokens} with a prompt of {num_prompt_tokens} tokens is more than the context "
                f"of {self._max_model_len}; lower it to {room} or leave it out to use what is left",
                param="max_tokens",
            )
        return params.max_tokens

    def _complete(self, params: SamplingParams) -> SamplingParams:
        """Ids checked against the vocabulary; bad words turned into token ids."""
        for name, ids in _named_ids(params):
            largest = max(ids, default=0)
            if largest >= self._vocab_size:
                raise InvalidRequestError(
                    f"{name} has token id {largest}; ids of this model are 0 … {self._vocab_size - 1}", param=name
                )
        tokenizer = self.tokenizer
        if params.structured_outputs is not None and tokenizer is None:
            raise InvalidRequestError(
                "structured_outputs need a tokenizer, but skip_tokenizer_init=True; use allowed_token_ids",
                param="structured_outputs",
            )
        if params.stop and tokenizer is None:
            raise InvalidRequestError(
                "stop strings need a tokenizer, but skip_tokenizer_init=True; use stop_token_ids", param="stop"
            )
        if not params.bad_words:
            return params
        if self._bad_word_variants is None:
            raise InvalidRequestError(
                "bad_words need a tokenizer, but skip_tokenizer_init=True; use logit_bias", param="bad_words"
            )
        variants = self._bad_word_variants(params.bad_words)
        changes: dict[str, Any] = {"bad_word_token_ids": params.bad_word_token_ids + variants}
        return msgspec.structs.replace(params, **changes)

    def _next_seed(self) -> int:
        """With an engine seed, the n-th request's own; else one from the system's entropy."""
        if self._seed is None:
            return secrets.randbits(64)
        number = next(self._numbers)  # in one step: no two threads have the same
        digest = hashlib.blake2b(f"{self._seed}/{number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")


def check_text(name: str, value: str) -> None:
    """Refuse what UTF-8 cannot carry. Raises `InvalidRequestError`."""
    try:
        value.encode()
    except (UnicodeEncodeError, AttributeError):
        raise InvalidRequestError(f"{name}={value!r} is not Unicode text without lone surrogates", param=name) from None


def _bad_word_variants(tokenizer: Tokenizer, words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Token ids of each word, at the start of a text and within one."""
    variants = [
        tuple(tokenizer.encode(prefix + word.lstrip(), add_special_tokens=False))
        for word in words
        for prefix in ("", " ")
    ]
    return tuple(dict.fromkeys(variants))


def _named_ids(params: SamplingParams) -> list[tuple[str, Sequence[int]]]:
    named: list[tuple[str, Sequence[int]]] = [("stop_token_ids", params.stop_token_ids)]
    named.append(("allowed_token_ids", params.allowed_token_ids or ()))
    named.append(("logit_bias", tuple(params.logit_bias or ())))
    named.extend(("bad_word_token_ids", word) for word in params.bad_word_token_ids)
    return named
