"""A request's fields as `SamplingParams`; where it is silent, the model's defaults, then Octavo's."""

from collections.abc import Sized
from typing import Any

from octavo.core.errors import ContextLengthError, InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.server.context import ServerContext
from octavo.server.schemas import GenerationRequest
from octavo.server.structured import structured_outputs

MAX_SALT_CHARS = 1024
MAX_LISTED = 1 << 20
"""Entries of a request's lists times its choices."""
SETTINGS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""How tokens are drawn: what /v1/models says the defaults of."""
_SAME_NAMES = (
    "n",
    *SETTINGS,
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "skip_special_tokens",
    "prompt_logprobs",
)


def sampling_params(
    context: ServerContext, request: GenerationRequest, *, num_prompts: int = 1, **overrides: Any
) -> SamplingParams:
    """`overrides` are what the endpoint itself decides. Raises `InvalidRequestError`."""
    _check_sizes(context, request, num_prompts * (request.n or 1))
    given = {name: getattr(request, name) for name in _SAME_NAMES}
    given["structured_outputs"] = structured_outputs(request)
    chosen = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**{**context.engine.front_end.sampling_defaults, **chosen, **overrides})


def requested_max_tokens(request: GenerationRequest) -> int | None:
    """By either of its names. Raises `InvalidRequestError` where both are given and differ."""
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequestError(
            f"max_tokens={old} and max_completion_tokens={new} are the same option; give one, or both equal",
            param="max_completion_tokens",
        )
    return new if old is None else old


def check_streaming(request: GenerationRequest) -> None:
    """Raises `InvalidRequestError` for what goes with a stream only, or not with one."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError("stream_options are for stream=true; leave them out", param="stream_options")
    if request.stream and request.prompt_logprobs is not None:
        raise InvalidRequestError(
            "prompt_logprobs are not available with stream=true; leave one of the two out", param="prompt_logprobs"
        )


def check_prompt_length(context: ServerContext, num_tokens: int, param: str) -> None:
    """Refuse a prompt that leaves no room for an answer, before anything walks over its tokens."""
    limit = context.engine.info.max_model_len
    if num_tokens >= limit:
        raise ContextLengthError(
            f"the prompt has {num_tokens} tokens and the context holds {limit}, output included; shorten the prompt",
            param=param,
        )


def priority_and_salt(request: GenerationRequest) -> tuple[int, str]:
    """The engine checks the priority. Raises `InvalidRequestError`."""
    salt = request.cache_salt
    if salt is not None and not 1 <= len(salt) <= MAX_SALT_CHARS:
        raise InvalidRequestError(
            f"cache_salt has {len(salt)} characters; allowed are 1 … {MAX_SALT_CHARS}", param="cache_salt"
        )
    return request.priority or 0, salt or ""


def _check_sizes(context: ServerContext, request: GenerationRequest, num_choices: int) -> None:
    """Bound the id lists by the vocabulary, before they are walked over, and by how many choices are to be made with
    them; `SamplingParams` bounds the rest.
    """
    vocab_size = context.engine.info.vocab_size
    lists: tuple[tuple[str, Sized], ...] = (
        ("stop_token_ids", request.stop_token_ids or ()),
        ("allowed_token_ids", request.allowed_token_ids or ()),
    )
    for name, ids in lists:
        if len(ids) > vocab_size:
            raise InvalidRequestError(
                f"{name} has {len(ids)} entries, more than the vocabulary's {vocab_size}", param=name
            )
    listed = {name: len(ids) for name, ids in lists}
    listed["logit_bias"] = len(request.logit_bias or ())
    listed["bad_words"] = sum(map(len, request.bad_words or ()))
    if sum(listed.values()) * num_choices > MAX_LISTED:
        longest = max(listed, key=lambda name: listed[name])
        raise InvalidRequestError(
            f"{', '.join(name for name, size in listed.items() if size)} have {sum(listed.values())} entries for each of "
            f"{num_choices} choices; entries times choices may be at most {MAX_LISTED}; send fewer prompts at a time, or "
            "shorter lists",
            param=longest,
        )
