"""A conversation to token ids: messages checked, written by the model's template, tokenised."""

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.core.errors import InvalidRequestError
from octavo.server.context import ServerContext
from octavo.server.sampling import check_prompt_length
from octavo.tokenizer.chat_template import ALLOWED_KWARGS

_READ = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "thinking")
)
_SENT_BACK = frozenset(("annotations",))
"""Part of an answer that clients send back with the conversation; it says nothing to the model."""
_NULL_ONLY = frozenset(("refusal", "audio", "function_call"))


async def chat_token_ids(
    context: ServerContext,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    template_kwargs: Mapping[str, Any],
    add_special_tokens: bool = False,
) -> list[int]:
    """Raises `InvalidRequestError` or `ContextLengthError`."""
    for name in template_kwargs:
        if name not in ALLOWED_KWARGS:
            raise InvalidRequestError(
                f"chat_template_kwargs has {name[:200]!r}; allowed are {', '.join(sorted(ALLOWED_KWARGS))}",
                param="chat_template_kwargs",
            )
    plain = [_known_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    prompt = await context.engine.render_chat(plain, add_generation_prompt=add_generation_prompt, **template_kwargs)
    token_ids = await context.engine.tokenize(prompt, add_special_tokens=add_special_tokens)
    check_prompt_length(context, len(token_ids), "messages")
    return token_ids


def _known_message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that a template may read, without those that are null."""
    known = {}
    for name, value in message.items():
        if name in _NULL_ONLY and value is not None:
            raise InvalidRequestError(f"{where}.{name} is not built yet; leave it out", param=f"{where}.{name}")
        if name not in _READ | _SENT_BACK | _NULL_ONLY:
            raise InvalidRequestError(
                f"{where} has an unknown field {name[:200]!r}; known are {', '.join(sorted(_READ))}",
                param=f"{where}.{name[:200]}",
            )
        if name in _READ and value is not None:
            known[name] = value
    return known
