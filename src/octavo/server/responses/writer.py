"""The answer of /v1/responses, as events or whole."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from octavo.server.context import ServerContext
from octavo.server.conversation import AskedConversation
from octavo.server.errors import ApiError
from octavo.server.responses.items import Message, MessageList, pack
from octavo.server.responses.output import OutputWriter
from octavo.server.responses.replies import (
    IncompleteDetails,
    InputTokensDetails,
    ModelResponse,
    OutputTokensDetails,
    ReasoningEcho,
    ResponseEvent,
    ResponseFailure,
    ResponsesUsage,
)
from octavo.server.responses.schema import ResponsesRequest, TextOptions
from octavo.server.responses.store import KeptResponse
from octavo.server.sample import SingleAnswer
from octavo.server.schemas import TextFormat
from octavo.server.sse import StreamForm
from octavo.server.wire import to_named_event, write_off_loop


class ResponseWriter:
    """Writes one response, and stores it when it is there as a whole. `messages` are what it answers."""

    def __init__(
        self, context: ServerContext, request: ResponsesRequest, asked: AskedConversation, messages: Sequence[Message]
    ) -> None:
        self._context = context
        self._request = request
        self._call = asked.call
        self._messages = messages
        self._answer = SingleAnswer(context, asked)
        self._output = OutputWriter()
        self._response = _begun(context, request, asked)

    @property
    def form(self) -> StreamForm:
        return StreamForm(to_named_event, self._fail)

    async def whole(self) -> bytes:
        async with aclosing(self._answer.events()) as batches:
            async for events in batches:
                self._output.write(events)
        self._finish()
        reply = await write_off_loop(lambda: self._response)
        if self._response.store:
            await self._keep(reply)
        return reply

    async def events(self) -> AsyncGenerator[Sequence[ResponseEvent], None]:
        """A batch for each delta of the engine; the first begins with the response, the last ends with it."""
        has_begun = False
        async with aclosing(self._answer.events()) as batches:
            async for events in batches:
                written = [] if has_begun else self._beginning()
                has_begun = True
                written += self._output.write(events)
                if written:
                    yield written
        ending = self._finish()
        if self._response.store:
            await self._keep(await write_off_loop(lambda: self._response))
        kind = "response.completed" if self._response.status == "completed" else "response.incomplete"
        yield [*ending, self._output.event(kind, response=self._response)]

    def _fail(self, error: ApiError) -> bytes:
        """The events that end a stream which failed."""
        self._response.status = "failed"
        self._response.error = ResponseFailure(code=error.code or error.type, message=error.shown_message)
        self._response.output = self._output.items
        described = self._output.event("error", code=error.code, message=error.shown_message, param=error.param)
        failed = self._output.event("response.failed", response=self._response)
        return to_named_event(described) + to_named_event(failed)

    def _beginning(self) -> list[ResponseEvent]:
        kinds = ("response.created", "response.in_progress")
        return [self._output.event(kind, response=self._response) for kind in kinds]

    def _finish(self) -> list[ResponseEvent]:
        """End the output and the response."""
        is_cut_off = self._answer.sample.finish_reason == "length"
        ending = self._output.finish("incomplete" if is_cut_off else "completed")
        self._response.status = "incomplete" if is_cut_off else "completed"
        self._response.incomplete_details = IncompleteDetails() if is_cut_off else None
        self._response.output = self._output.items
        self._response.usage = self._usage()
        return ending

    async def _keep(self, reply: bytes) -> None:
        """Store it, for others to go on from."""
        kept = KeptResponse(reply, await asyncio.to_thread(self._conversation))
        self._context.responses.put(self._call.visit.client, self._call.id, kept)

    def _conversation(self) -> bytes:
        """Up to the end of the answer."""
        conversation = MessageList(self._messages)
        conversation.add_output(self._output.items)
        return pack(conversation.messages)

    def _usage(self) -> ResponsesUsage:
        used = self._answer.usage
        return ResponsesUsage(
            input_tokens=used.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=used.prompt_tokens_details.cached_tokens),
            output_tokens=used.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=self._answer.sample.num_reasoning_tokens),
            total_tokens=used.total_tokens,
        )


def _begun(context: ServerContext, request: ResponsesRequest, asked: AskedConversation) -> ModelResponse:
    """The response before anything is answered: what was asked, with what was left open filled in."""
    params = asked.call.params
    text = request.text or TextOptions()
    return ModelResponse(
        id=asked.call.id,
        created_at=int(time.time()),
        status="in_progress",
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning=ReasoningEcho(effort=None if request.reasoning is None else request.reasoning.effort),
        store=request.store is not False,
        temperature=params.temperature,
        text=TextOptions(format=text.format or TextFormat(), verbosity=text.verbosity or "medium"),
        tool_choice=request.tool_choice or "auto",
        tools=request.tools or [],
        top_p=params.top_p,
        system_fingerprint=context.fingerprint,
    )
