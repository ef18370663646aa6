"""/v1/completions: texts continued."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import InvalidRequestError
from octavo.core.outputs import CompletionDelta, RequestDelta
from octavo.core.request import FinishReason
from octavo.server.answer import Answer, new_id
from octavo.server.context import ServerContext
from octavo.server.endpoint import answer
from octavo.server.finish import finish_text
from octavo.server.generation import GenerationCall, PromptDelta, generate_all
from octavo.server.logprobs import CompletionLogprobsWriter, joined, written_prompt_logprobs
from octavo.server.prompts import prompt_texts, read_prompts, tokenize_all
from octavo.server.replies import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    FinishReasonText,
    Written,
)
from octavo.server.sampling import (
    check_streaming,
    priority_and_salt,
    requested_max_tokens,
    sampling_params,
)
from octavo.server.schemas import CompletionRequest
from octavo.server.sse import CHUNKS
from octavo.server.structured import shape_field
from octavo.server.visit import Visit
from octavo.server.wire import write_off_loop


async def complete(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    return await answer(context, http, CompletionRequest, _prepare)


async def _prepare(context: ServerContext, request: CompletionRequest, visit: Visit) -> "_Writer":
    check_streaming(request)
    prompts = read_prompts(context, request)
    overrides, is_prompt_only = _overrides(request)
    params = sampling_params(context, request, num_prompts=len(prompts), **overrides)
    priority, salt = priority_and_salt(request)
    visit.enter(context.engine, len(prompts) * params.n)
    prompt_token_ids = await tokenize_all(context, prompts, visit.client)
    echoed = None
    if request.echo:
        echoed = await prompt_texts(context, prompts, prompt_token_ids, skip_special_tokens=params.skip_special_tokens)
    call = GenerationCall(
        id=new_id("cmpl"),
        prompts=prompt_token_ids,
        params=params,
        priority=priority,
        cache_salt=salt,
        visit=visit,
        shape_field=shape_field(request),
    )
    return _Writer(context, request, call, echoed, is_prompt_only)


def _overrides(request: CompletionRequest) -> tuple[dict[str, Any], bool]:
    """(parameters that this endpoint decides, whether the prompt alone is wanted). Raises `InvalidRequestError`."""
    n = 1 if request.n is None else request.n
    if request.best_of is not None and request.best_of != n:
        raise InvalidRequestError(
            f"best_of={request.best_of} with n={n} is not built yet; leave it out, or ask for more with n",
            param="best_of",
        )
    overrides: dict[str, Any] = {"logprobs": request.logprobs}
    max_tokens = requested_max_tokens(request)
    is_prompt_only = max_tokens == 0 and bool(request.echo)
    if is_prompt_only:
        max_tokens = 1  # computed, as the engine wants something to do, and not shown
    if max_tokens is not None:
        overrides["max_tokens"] = max_tokens
    if request.echo and request.logprobs is not None:
        overrides["prompt_logprobs"] = max(request.logprobs, request.prompt_logprobs or 0)
    return overrides, is_prompt_only


@dataclass(slots=True)
class _Choice:
    """One sample of one prompt, as far as it has come."""

    logprobs_writer: CompletionLogprobsWriter | None
    texts: list[str] = field(default_factory=list)
    logprobs: list[CompletionLogprobs] = field(default_factory=list)
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None


class _Writer:
    """Writes one request's answer, in chunks or whole. Choice `prompt · n + sample` is the sample's index."""

    form = CHUNKS

    def __init__(
        self,
        context: ServerContext,
        request: CompletionRequest,
        call: GenerationCall,
        echoed: Sequence[str] | None,
        is_prompt_only: bool,
    ) -> None:
        self._context = context
        self._request = request
        self._call = call
        self._echoed = echoed
        self._is_prompt_only = is_prompt_only
        self._answer = Answer(request, call)
        self._choices = [_Choice(self._logprobs_writer()) for _ in range(len(call.prompts) * call.params.n)]
        self._prompt_logprobs: list[Written | UnsetType] = [UNSET] * len(call.prompts)

    def _logprobs_writer(self) -> CompletionLogprobsWriter | None:
        if self._request.logprobs is None:
            return None
        return CompletionLogprobsWriter(
            self._context.tokenizer,
            self._request.logprobs,
            skip_special_tokens=self._call.params.skip_special_tokens,
        )

    async def whole(self) -> bytes:
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                for choice in await self._take(item):
                    self._keep(choice)
        return await write_off_loop(self._whole)

    def _whole(self) -> Completion:
        choices = [self._whole_choice(index) for index in range(len(self._choices))]
        return self._completion(choices, self._answer.usage())

    async def events(self) -> AsyncGenerator[Sequence[Completion], None]:
        """A batch of chunks for each delta of the engine. The first chunks stand in the order of their indexes."""
        has_begun = False
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                choices = await self._take(item)
                if not has_begun and len(self._choices) > 1:
                    choices = [CompletionChoice(index=i, text="") for i in range(len(self._choices))] + choices
                has_begun = True
                if choices:
                    yield [self._completion([choice], self._answer.chunk_usage()) for choice in choices]
        if self._answer.ends_with_usage:
            yield [self._completion([], self._answer.usage())]

    async def _take(self, item: PromptDelta) -> list[CompletionChoice]:
        """What the delta adds to the choices: first the echo, where it is due, then the samples' pieces."""
        if self._is_prompt_only:
            item.delta.outputs = [_unseen(piece) for piece in item.delta.outputs]
        self._answer.count(item)
        pieces = await self._echo(item.prompt_index, item.delta)
        for piece in item.delta.outputs:
            choice = self._piece(item.prompt_index * self._call.params.n + piece.index, piece)
            if choice is not None:
                pieces.append(choice)
        return pieces

    async def _echo(self, prompt_index: int, delta: RequestDelta) -> list[CompletionChoice]:
        """The prompt, for each of its samples, once: with the log-probabilities where they are wanted."""
        entries = delta.prompt_logprobs
        if entries is not None and self._request.prompt_logprobs is not None:
            write = partial(written_prompt_logprobs, self._context.tokenizer, entries)
            self._prompt_logprobs[prompt_index] = await asyncio.to_thread(write)
        is_due = self._request.logprobs is None or entries is not None
        if self._echoed is None or not is_due or not self._answer.is_first_of_prompt(prompt_index):
            return []
        text = self._echoed[prompt_index]
        n = self._call.params.n
        logprobs = None
        writers = [choice.logprobs_writer for choice in self._choices[prompt_index * n : prompt_index * n + n]]
        if writers[0] is not None:
            assert entries is not None
            token_ids = self._call.prompts[prompt_index]
            logprobs = await asyncio.to_thread(writers[0].prompt, token_ids, entries, text)
        for writer in writers:
            if writer is not None:
                writer.begin_behind(text)
        return [CompletionChoice(index=prompt_index * n + at, text=text, logprobs=logprobs) for at in range(n)]

    def _piece(self, index: int, piece: CompletionDelta) -> CompletionChoice | None:
        logprobs = None
        writer = self._choices[index].logprobs_writer
        if writer is not None and (piece.token_ids or piece.finish_reason):
            logprobs = writer.write(piece.token_ids, piece.logprobs or [])
        if not (piece.text or piece.finish_reason or (logprobs and logprobs.tokens)):
            return None
        return CompletionChoice(
            index=index,
            text=piece.text,
            logprobs=logprobs,
            finish_reason=finish_text(piece.finish_reason),
            stop_reason=piece.stop_reason,
        )

    def _keep(self, piece: CompletionChoice) -> None:
        choice = self._choices[piece.index]
        choice.texts.append(piece.text)
        if piece.logprobs is not None:
            choice.logprobs.append(piece.logprobs)
        if piece.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = piece.finish_reason, piece.stop_reason

    def _whole_choice(self, index: int) -> CompletionChoice:
        choice = self._choices[index]
        is_wanted = self._request.prompt_logprobs is not None
        return CompletionChoice(
            index=index,
            text="".join(choice.texts),
            logprobs=None if choice.logprobs_writer is None else joined(choice.logprobs),
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            prompt_logprobs=self._prompt_logprobs[index // self._call.params.n] if is_wanted else UNSET,
        )

    def _completion(self, choices: list[CompletionChoice], usage: Any) -> Completion:
        return Completion(
            id=self._call.id,
            created=self._answer.created_s,
            model=self._request.model,
            system_fingerprint=self._context.fingerprint,
            choices=choices,
            usage=usage,
        )


def _unseen(piece: CompletionDelta) -> CompletionDelta:
    """`max_tokens=0`: the one token that was sampled is not part of the answer."""
    is_end = piece.finish_reason is FinishReason.STOP
    return CompletionDelta(
        piece.index, logprobs=[], finish_reason=FinishReason.LENGTH if is_end else piece.finish_reason
    )
