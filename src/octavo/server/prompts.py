"""The prompts of a completion request: a text, texts, token ids, or lists of token ids."""

import asyncio
from collections.abc import Sequence

from octavo.core.errors import InvalidRequestError
from octavo.server.context import ServerContext
from octavo.server.sampling import check_prompt_length
from octavo.server.schemas import CompletionRequest

MAX_CHOICES = 2048
"""Prompts times samples of one HTTP request."""

Prompt = str | list[int]


def read_prompts(context: ServerContext, request: CompletionRequest) -> list[Prompt]:
    """The request's prompts, of one kind. Raises `InvalidRequestError` or `ContextLengthError`."""
    prompts = _listed(request.prompt)
    info = context.engine.info
    limit = info.max_num_seqs + info.max_num_queued_reqs
    if len(prompts) > limit:
        raise InvalidRequestError(
            f"prompt has {len(prompts)} entries; this server takes at most {limit} requests at a time; send fewer",
            param="prompt",
        )
    if len(prompts) * (request.n or 1) > MAX_CHOICES:
        raise InvalidRequestError(
            f"{len(prompts)} prompts with n={request.n} are more than {MAX_CHOICES} choices; send fewer", param="n"
        )
    for prompt in prompts:
        if isinstance(prompt, list):
            check_prompt_length(context, len(prompt), "prompt")
    return prompts


async def tokenize_all(context: ServerContext, prompts: Sequence[Prompt], client: str) -> list[list[int]]:
    """Raises `InvalidRequestError` or `ContextLengthError`."""
    token_ids = []
    for prompt in prompts:  # one by one: the first bad one ends it, and other requests get their turn
        ids = await context.engine.texts.tokenize(prompt, client=client)
        check_prompt_length(context, len(ids), "prompt")
        token_ids.append(ids)
    return token_ids


async def prompt_texts(
    context: ServerContext,
    prompts: Sequence[Prompt],
    prompt_token_ids: Sequence[list[int]],
    *,
    skip_special_tokens: bool,
) -> list[str]:
    """What `echo` shows: a text as it was given, token ids as their text."""
    texts = []
    for prompt, token_ids in zip(prompts, prompt_token_ids, strict=True):
        if isinstance(prompt, str):
            texts.append(prompt)
        else:
            texts.append(
                await asyncio.to_thread(context.tokenizer.decode, token_ids, skip_special_tokens=skip_special_tokens)
            )
    return texts


def _listed(prompt: str | list[str | int | list[int]]) -> list[Prompt]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequestError("prompt is an empty list; give a text, token ids, or lists of them", param="prompt")
    kinds = {type(entry) for entry in prompt}
    if kinds == {int}:
        return [[entry for entry in prompt if isinstance(entry, int)]]
    if kinds in ({str}, {list}):
        return [entry for entry in prompt if not isinstance(entry, int)]
    raise InvalidRequestError(
        "prompt mixes texts, token ids and lists of token ids; give entries of one kind", param="prompt"
    )
