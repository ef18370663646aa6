"""The answer of /v1/chat/completions, in chunks or whole."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType

from octavo.core.outputs import CompletionDelta
from octavo.server.answer import Answer
from octavo.server.answer_events import AnswerEvent, ReasoningDelta, TextDelta, ToolCallBegin, WholeAnswer
from octavo.server.context import ServerContext
from octavo.server.conversation import AskedConversation
from octavo.server.generation import generate_all
from octavo.server.logprobs import chat_logprobs, written_prompt_logprobs
from octavo.server.replies import (
    CalledFunction,
    CalledFunctionDelta,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ToolCall,
    ToolCallDelta,
    Written,
)
from octavo.server.sample import Sample
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.sse import CHUNKS
from octavo.server.wire import write_off_loop


@dataclass(slots=True)
class _Choice(Sample):
    """A sample, and what a whole answer shows of it."""

    answer: WholeAnswer = field(default_factory=WholeAnswer)
    logprobs: list[Written] = field(default_factory=list)


class ChatWriter:
    """Writes one request's answer."""

    form = CHUNKS

    def __init__(
        self,
        context: ServerContext,
        request: ChatCompletionRequest,
        asked: AskedConversation,
    ) -> None:
        self._context = context
        self._request = request
        self._call = asked.call
        self._answer = Answer(request, asked.call)
        self._choices = [_Choice(parser) for parser in asked.parsers]
        self._num_top = request.top_logprobs or 0

    async def whole(self) -> bytes:
        prompt_logprobs: Written | UnsetType = UNSET
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                self._answer.count(item)
                if item.delta.prompt_logprobs is not None:
                    write = partial(written_prompt_logprobs, self._context.tokenizer, item.delta.prompt_logprobs)
                    prompt_logprobs = await asyncio.to_thread(write)
                for piece in item.delta.outputs:
                    self._keep(piece)
        return await write_off_loop(lambda: self._completion(prompt_logprobs))

    def _completion(self, prompt_logprobs: Written | UnsetType) -> ChatCompletion:
        return ChatCompletion(
            id=self._call.id,
            created=self._answer.created_s,
            model=self._request.model,
            system_fingerprint=self._context.fingerprint,
            choices=[self._whole_choice(index, choice) for index, choice in enumerate(self._choices)],
            usage=self._answer.usage(self._num_reasoning_tokens),
            prompt_logprobs=prompt_logprobs,
        )

    async def events(self) -> AsyncGenerator[Sequence[ChatCompletionChunk], None]:
        """A batch of chunks for each delta of the engine; before them, the roles of all choices in order."""
        has_begun = False
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                self._answer.count(item)
                choices = [] if has_begun else self._roles()
                has_begun = True
                for piece in item.delta.outputs:
                    choices += self._chunk_choices(piece)
                usage = self._answer.chunk_usage(self._num_reasoning_tokens)
                if choices:
                    yield [self._chunk([choice], usage) for choice in choices]
        if self._answer.ends_with_usage:
            yield [self._chunk([], self._answer.usage(self._num_reasoning_tokens))]

    @property
    def _num_reasoning_tokens(self) -> int:
        return sum(choice.num_reasoning_tokens for choice in self._choices)

    def _roles(self) -> list[ChatChunkChoice]:
        first = ChatDelta(role="assistant", content=None if self._request.tools else "")
        return [ChatChunkChoice(index=index, delta=first) for index in range(len(self._choices))]

    def _chunk_choices(self, piece: CompletionDelta) -> list[ChatChunkChoice]:
        """The piece's events, then its end, where there are such; its log-probabilities with the first event."""
        choice = self._choices[piece.index]
        deltas = [_delta(event) for event in choice.read(piece)]
        logprobs = self._logprobs(piece)
        if logprobs is not None and not deltas:
            deltas = [ChatDelta()]  # the tokens' text is held back, or belongs to the format
        written = [ChatChunkChoice(index=piece.index, delta=delta) for delta in deltas]
        if written:
            written[0].logprobs = logprobs
        if choice.finish_reason is not None:
            written.append(
                ChatChunkChoice(
                    index=piece.index,
                    delta=ChatDelta(),
                    finish_reason=choice.finish_reason,
                    stop_reason=choice.stop_reason,
                )
            )
        return written

    def _keep(self, piece: CompletionDelta) -> None:
        choice = self._choices[piece.index]
        choice.answer.add(choice.read(piece))
        logprobs = self._logprobs(piece)
        if logprobs is not None:
            choice.logprobs += logprobs.content

    def _logprobs(self, piece: CompletionDelta) -> ChatLogprobs | None:
        """Of all tokens of the piece, those of tool calls and reasoning too."""
        if not self._request.logprobs or not piece.token_ids:
            return None
        return chat_logprobs(self._context.tokenizer, piece.token_ids, piece.logprobs or [], self._num_top)

    def _whole_choice(self, index: int, choice: _Choice) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=_message(choice.answer, is_forced=choice.parser.is_forced),
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


def _message(answer: WholeAnswer, *, is_forced: bool) -> ChatMessage:
    """An answer that has calls, or is held to them, has no text rather than an empty one."""
    calls = [
        ToolCall(id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments)) for call in answer.calls
    ]
    reasoning = answer.reasoning or UNSET
    return ChatMessage(
        content=answer.text or (None if calls or is_forced else ""),
        tool_calls=calls or UNSET,
        reasoning=reasoning,
        reasoning_content=reasoning,
    )


def _delta(event: AnswerEvent) -> ChatDelta:
    if isinstance(event, TextDelta):
        return ChatDelta(content=event.text)
    if isinstance(event, ReasoningDelta):
        return ChatDelta(reasoning=event.text, reasoning_content=event.text)
    if isinstance(event, ToolCallBegin):
        function = CalledFunctionDelta(name=event.name, arguments="")
        return ChatDelta(tool_calls=[ToolCallDelta(index=event.index, id=event.id, type="function", function=function)])
    return ChatDelta(tool_calls=[ToolCallDelta(index=event.index, function=CalledFunctionDelta(arguments=event.text))])
