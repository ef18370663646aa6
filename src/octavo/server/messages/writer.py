"""The answer of /v1/messages, as events or whole."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from octavo.server.context import ServerContext
from octavo.server.conversation import AskedConversation
from octavo.server.messages.errors import error_reply
from octavo.server.messages.output import BlockWriter
from octavo.server.messages.replies import (
    MessageEnd,
    MessageEndEvent,
    MessagesEvent,
    MessagesUsage,
    ModelMessage,
    OutputTokens,
    StopReason,
)
from octavo.server.messages.schema import MessagesRequest
from octavo.server.replies import FinishReasonText
from octavo.server.request_record import current_record
from octavo.server.sample import SingleAnswer
from octavo.server.sse import StreamForm
from octavo.server.wire import to_named_event, write_off_loop

_STOP_REASONS: Mapping[FinishReasonText | None, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}


class MessageWriter:
    """Writes one message."""

    form = StreamForm(to_named_event, lambda error: to_named_event(error_reply(error, current_record.get().id)))

    def __init__(self, context: ServerContext, request: MessagesRequest, asked: AskedConversation) -> None:
        self._request = request
        self._id = asked.call.id
        self._answer = SingleAnswer(context, asked)
        self._blocks = BlockWriter()

    async def whole(self) -> bytes:
        async with aclosing(self._answer.events()) as batches:
            async for events in batches:
                self._blocks.write(events)
        self._blocks.finish()
        message = self._message()
        end = self._end()
        message.content = self._blocks.blocks
        message.stop_reason, message.stop_sequence = end.stop_reason, end.stop_sequence
        return await write_off_loop(lambda: message)

    async def events(self) -> AsyncGenerator[Sequence[MessagesEvent | MessageEndEvent], None]:
        """A batch for each delta of the engine; the first begins with the message, the last ends it."""
        has_begun = False
        async with aclosing(self._answer.events()) as batches:
            async for events in batches:
                written = [] if has_begun else [MessagesEvent(type="message_start", message=self._message())]
                has_begun = True
                written += self._blocks.write(events)
                if written:
                    yield written
        end = MessageEndEvent(delta=self._end(), usage=self._usage())
        yield [*self._blocks.finish(), end, MessagesEvent(type="message_stop")]

    def _message(self) -> ModelMessage:
        return ModelMessage(id=self._id, model=self._request.model, content=[], stop_reason=None, usage=self._usage())

    def _end(self) -> MessageEnd:
        sample = self._answer.sample
        if sample.finish_reason == "stop" and isinstance(sample.stop_reason, str):
            return MessageEnd(stop_reason="stop_sequence", stop_sequence=sample.stop_reason)
        return MessageEnd(stop_reason=_STOP_REASONS[sample.finish_reason], stop_sequence=None)

    def _usage(self) -> MessagesUsage:
        used = self._answer.usage
        num_cached = used.prompt_tokens_details.cached_tokens
        return MessagesUsage(
            input_tokens=used.prompt_tokens - num_cached,
            cache_read_input_tokens=num_cached,
            output_tokens=used.completion_tokens,
            output_tokens_details=OutputTokens(thinking_tokens=self._answer.sample.num_reasoning_tokens),
        )
