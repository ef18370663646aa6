"""What a client may ask of the sampler, with the field's names and defaults, checked once."""

from collections.abc import Mapping
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import StructuredOutputs

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 64
MAX_STOP_CHARS = 1024
MAX_STOP_TOTAL_CHARS = 4096
MAX_BIAS_ENTRIES = 1024
MAX_BAD_WORD_CHARS = 256
MAX_TOKEN_ID_ENTRIES = 1 << 20
MAX_TOKENS_LIMIT = 1 << 30


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How one request is sampled and when it stops.

    Distribution: penalties and biases change the logits, then logits / temperature, then
    `min_p`, `top_k` and `top_p` cut the tail, then one token is drawn; `temperature=0` takes
    the largest logit. Random numbers are keyed by (seed, position), so a request with a seed
    repeats whatever shares its batch. Log-probabilities are those of the model's raw logits.

    Raises `InvalidRequestError` naming the field, what it got and what is allowed.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """Keep the k most likely tokens; 0 (or -1) keeps all."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: int | None = 16
    """None: as many as the context leaves."""
    min_tokens: int = 0
    logprobs: int | None = None
    """How many top tokens' log-probabilities to return beside the sampled one's; None: none at all."""
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] = ()
    bad_word_token_ids: tuple[tuple[int, ...], ...] = ()
    """Token sequences never to complete; the engine fills them from `bad_words`."""
    skip_special_tokens: bool = True
    shown_special_token_ids: tuple[int, ...] = ()
    """Those whose text is part of the answer all the same."""
    detokenize: bool = True
    structured_outputs: StructuredOutputs | None = None
    """What shape the answer must have; it ends when nothing can follow."""

    def __post_init__(self) -> None:
        stop: Any = self.stop
        _coerce(self, "stop", (stop,) if isinstance(stop, str) else _as_tuple("stop", stop))
        for name in ("stop_token_ids", "bad_words", "bad_word_token_ids", "shown_special_token_ids"):
            _coerce(self, name, _as_tuple(name, getattr(self, name)))
        words = tuple(_as_tuple("bad_word_token_ids", word) for word in self.bad_word_token_ids)
        _coerce(self, "bad_word_token_ids", words)
        if self.allowed_token_ids is not None:
            _coerce(self, "allowed_token_ids", _as_tuple("allowed_token_ids", self.allowed_token_ids))
        _coerce(self, "structured_outputs", _as_structured_outputs(self.structured_outputs))
        self._validate()
        if self.top_k == -1:
            _coerce(self, "top_k", 0)

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    def _validate(self) -> None:
        _integer("n", self.n, 1, 128)
        _number("temperature", self.temperature, 0.0, 100.0)
        _number("top_p", self.top_p, 0.0, 1.0, exclusive_low=True)
        _integer("top_k", self.top_k, -1, 1 << 31)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        if self.seed is not None:
            _integer("seed", self.seed, -(1 << 63), (1 << 64) - 1)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, MAX_TOKENS_LIMIT)
        _integer("min_tokens", self.min_tokens, 0, self.max_tokens or MAX_TOKENS_LIMIT)
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            if value is not None:
                _integer(name, value, 0, MAX_LOGPROBS)
        for name in ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "detokenize"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(f"{name}={getattr(self, name)!r} is not true or false", param=name)
        _strings("stop", self.stop, MAX_STOP_STRINGS, MAX_STOP_CHARS)
        num_chars = sum(map(len, self.stop))
        if num_chars > MAX_STOP_TOTAL_CHARS:
            raise InvalidRequestError(
                f"stop has {num_chars} characters in all; at most {MAX_STOP_TOTAL_CHARS}; shorten the strings, or send fewer",
                param="stop",
            )
        _strings("bad_words", self.bad_words, MAX_BIAS_ENTRIES, MAX_BAD_WORD_CHARS)
        _token_ids("stop_token_ids", self.stop_token_ids)
        _token_ids("shown_special_token_ids", self.shown_special_token_ids)
        if self.allowed_token_ids is not None:
            _token_ids("allowed_token_ids", self.allowed_token_ids)
            if not self.allowed_token_ids:
                raise InvalidRequestError(
                    "allowed_token_ids is empty, so no token could be sampled; name at least one id or leave it out",
                    param="allowed_token_ids",
                )
        for word in self.bad_word_token_ids:
            _token_ids("bad_word_token_ids", word)
        if self.logit_bias is not None:
            _logit_bias(self.logit_bias)
        if self.stop and not self.detokenize:
            raise InvalidRequestError(
                "stop strings need text, but detokenize=False; use stop_token_ids, or detokenize=True", param="stop"
            )


def _as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """A list as a tuple; None as an empty one."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(f"{name} has type {type(value).__name__}; a list is needed", param=name)
    return tuple(value)


def _as_structured_outputs(value: Any) -> StructuredOutputs | None:
    """A mapping of its fields, or itself."""
    if value is None or isinstance(value, StructuredOutputs):
        return value
    try:
        return msgspec.convert(value, StructuredOutputs)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"structured_outputs: {error}", param="structured_outputs") from None


def _coerce(params: SamplingParams, name: str, value: Any) -> None:
    msgspec.structs.force_setattr(params, name, value)


def _number(name: str, value: Any, low: float, high: float, *, exclusive_low: bool = False) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if is_number and low <= value <= high and not (exclusive_low and value == low):
        return
    bracket = "(" if exclusive_low else "["
    raise InvalidRequestError(f"{name}={value!r} is not a number in {bracket}{low:g}, {high:g}]", param=name)


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return
    raise InvalidRequestError(f"{name}={value!r} is not an integer from {low} to {high}", param=name)


def _strings(name: str, values: tuple[Any, ...], most: int, most_chars: int) -> None:
    if len(values) > most:
        raise InvalidRequestError(f"{name} has {len(values)} entries; at most {most} are allowed", param=name)
    for value in values:
        if not isinstance(value, str) or not value or not _is_unicode(value):
            raise InvalidRequestError(
                f"{name} has {value!r}; its entries must be non-empty Unicode strings", param=name
            )
        if len(value) > most_chars:
            raise InvalidRequestError(
                f"{name} has a string of {len(value)} characters; at most {most_chars}", param=name
            )


def _is_unicode(value: str) -> bool:
    """Whether UTF-8 can carry it: no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _token_ids(name: str, values: tuple[Any, ...]) -> None:
    if len(values) > MAX_TOKEN_ID_ENTRIES:
        raise InvalidRequestError(
            f"{name} has {len(values)} entries; at most {MAX_TOKEN_ID_ENTRIES} are allowed", param=name
        )
    if not values or (set(map(type, values)) == {int} and min(values) >= 0 and max(values) < 1 << 31):
        return  # without a look at each: a list may be as long as the vocabulary
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
            raise InvalidRequestError(f"{name} has {value!r}; token ids are integers from 0", param=name)


def _logit_bias(bias: Any) -> None:
    if not isinstance(bias, Mapping):
        raise InvalidRequestError(
            f"logit_bias has type {type(bias).__name__}; a mapping of token id to bias is needed", param="logit_bias"
        )
    if len(bias) > MAX_BIAS_ENTRIES:
        raise InvalidRequestError(
            f"logit_bias has {len(bias)} entries; at most {MAX_BIAS_ENTRIES} are allowed", param="logit_bias"
        )
    _token_ids("logit_bias", tuple(bias))
    for value in bias.values():
        _number("logit_bias", value, -100.0, 100.0)
