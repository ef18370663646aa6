"""/v1/chat/completions: conversations answered."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import InvalidRequestError, OctavoError
from octavo.core.outputs import CompletionDelta
from octavo.core.sampling_params import MAX_LOGPROBS, SamplingParams
from octavo.server.answer import Answer, json_response, new_id
from octavo.server.body import read_request
from octavo.server.chat_prompt import chat_token_ids
from octavo.server.context import ServerContext
from octavo.server.disconnect import until_disconnect
from octavo.server.finish import finish_text
from octavo.server.generation import GenerationCall, generate_all
from octavo.server.logprobs import chat_logprobs, finite_prompt_logprobs
from octavo.server.models import check_model
from octavo.server.replies import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    FinishReasonText,
    PromptLogprobs,
    TokenLogprob,
)
from octavo.server.sampling import check_streaming, priority_and_salt, requested_max_tokens, sampling_params
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.sse import event_stream
from octavo.server.visit import Visit, visit_of

_FIELD_NAMES: Mapping[str | None, str] = {"prompt": "messages", "logprobs": "top_logprobs"}
"""What the engine calls a field → what it is called here."""


async def chat(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context.config, ChatCompletionRequest)
    check_model(context, request.model)
    check_streaming(request)
    visit = visit_of(http)
    visit.limit_time(context.config, request.timeout)
    try:
        return await until_disconnect(http.receive, _answer(context, request, visit))
    except OctavoError as error:
        error.param = _FIELD_NAMES.get(error.param, error.param)
        raise


async def _answer(context: ServerContext, request: ChatCompletionRequest, visit: Visit) -> Response:
    params = _params(context, request)
    priority, salt = priority_and_salt(request)
    visit.enter(context.engine, params.n)
    token_ids = await visit.in_time(
        chat_token_ids(
            context,
            request.messages,
            add_generation_prompt=request.add_generation_prompt is not False,
            template_kwargs=request.chat_template_kwargs or {},
        )
    )
    call = GenerationCall(
        id=new_id("chatcmpl"), prompts=[token_ids], params=params, priority=priority, cache_salt=salt, visit=visit
    )
    writer = _Writer(context, request, call)
    if request.stream:
        return await event_stream(writer.chunks())
    return json_response(await writer.whole())


def _params(context: ServerContext, request: ChatCompletionRequest) -> SamplingParams:
    num_top = request.top_logprobs
    if num_top is not None and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs=true; set it, or leave both out", param="top_logprobs")
    if num_top is not None and not 0 <= num_top <= MAX_LOGPROBS:
        raise InvalidRequestError(
            f"top_logprobs={num_top} is not an integer from 0 to {MAX_LOGPROBS}", param="top_logprobs"
        )
    return sampling_params(
        context,
        request,
        max_tokens=requested_max_tokens(request),
        logprobs=(num_top or 0) if request.logprobs else None,
    )


@dataclass(slots=True)
class _Choice:
    """One sample, as far as it has come."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None


class _Writer:
    """Writes one request's answer, in chunks or whole."""

    def __init__(self, context: ServerContext, request: ChatCompletionRequest, call: GenerationCall) -> None:
        self._context = context
        self._request = request
        self._call = call
        self._answer = Answer(context, request, call)
        self._num_top = request.top_logprobs or 0

    async def whole(self) -> ChatCompletion:
        choices = [_Choice() for _ in range(self._call.params.n)]
        prompt_logprobs: PromptLogprobs | UnsetType = UNSET
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                self._answer.count(item)
                if item.delta.prompt_logprobs is not None:
                    prompt_logprobs = finite_prompt_logprobs(item.delta.prompt_logprobs)
                for piece in item.delta.outputs:
                    self._keep(choices[piece.index], piece)
        return ChatCompletion(
            id=self._call.id,
            created=self._answer.created_s,
            model=self._request.model,
            system_fingerprint=self._context.fingerprint,
            choices=[self._whole_choice(index, choice) for index, choice in enumerate(choices)],
            usage=self._answer.usage(),
            prompt_logprobs=prompt_logprobs,
        )

    async def chunks(self) -> AsyncGenerator[Sequence[ChatCompletionChunk], None]:
        """A batch of chunks for each delta of the engine; before them, the roles of all choices in order."""
        has_begun = False
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                self._answer.count(item)
                choices = [] if has_begun else self._roles()
                has_begun = True
                for piece in item.delta.outputs:
                    choices += self._chunk_choices(piece)
                if choices:
                    yield [self._chunk([choice], self._answer.chunk_usage()) for choice in choices]
        if self._answer.ends_with_usage:
            yield [self._chunk([], self._answer.usage())]

    def _roles(self) -> list[ChatChunkChoice]:
        first = ChatDelta(role="assistant", content="")
        return [ChatChunkChoice(index=index, delta=first) for index in range(self._call.params.n)]

    def _chunk_choices(self, piece: CompletionDelta) -> list[ChatChunkChoice]:
        """The piece's text, then its end, where there are such."""
        choices = []
        logprobs = self._logprobs(piece)
        if piece.text or logprobs is not None:
            delta = ChatDelta(content=piece.text)
            choices.append(ChatChunkChoice(index=piece.index, delta=delta, logprobs=logprobs))
        if piece.finish_reason is not None:
            choices.append(
                ChatChunkChoice(
                    index=piece.index,
                    delta=ChatDelta(),
                    finish_reason=finish_text(piece.finish_reason),
                    stop_reason=piece.stop_reason,
                )
            )
        return choices

    def _keep(self, choice: _Choice, piece: CompletionDelta) -> None:
        choice.texts.append(piece.text)
        logprobs = self._logprobs(piece)
        if logprobs is not None:
            choice.logprobs += logprobs.content
        if piece.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = finish_text(piece.finish_reason), piece.stop_reason

    def _logprobs(self, piece: CompletionDelta) -> ChatLogprobs | None:
        if not self._request.logprobs or not piece.token_ids:
            return None
        return chat_logprobs(self._context.tokenizer, piece.token_ids, piece.logprobs or [], self._num_top)

    def _whole_choice(self, index: int, choice: _Choice) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatMessage(content="".join(choice.texts)),
            logprobs=ChatLogprobs(content=choice.logprobs) if self._request.logprobs else None,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
        )

    def _chunk(self, choices: list[ChatChunkChoice], usage: Any) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._call.id,
            created=self._answer.created_s,
            model=self._request.model,
            system_fingerprint=self._context.fingerprint,
            choices=choices,
            usage=usage,
        )
