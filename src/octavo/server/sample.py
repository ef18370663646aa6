"""One sample of an answer, read as the engine writes it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from octavo.core.outputs import CompletionDelta
from octavo.server.answer_events import AnswerEvent
from octavo.server.answer_parser import AnswerParser
from octavo.server.context import ServerContext
from octavo.server.conversation import AskedConversation
from octavo.server.finish import finish_text
from octavo.server.generation import generate_all
from octavo.server.replies import FinishReasonText, Usage
from octavo.server.usage import UsageCounter


@dataclass(slots=True)
class Sample:
    """One sample, as far as it has come."""

    parser: AnswerParser
    finish_reason: FinishReasonText | None = None
    stop_reason: int | str | None = None
    num_tokens: int = 0
    num_reasoning_tokens: int = 0
    """Up to the piece that ended what the model thought; the markers around it are counted with it."""

    def read(self, piece: CompletionDelta) -> list[AnswerEvent]:
        """The events that a piece makes certain; notes how the sample ended, where it has."""
        was_reasoning = self.parser.is_reasoning
        events = self.parser.push(piece.text)
        self.num_tokens += len(piece.token_ids)
        if was_reasoning or self.parser.is_reasoning:
            self.num_reasoning_tokens = self.num_tokens  # it is what an answer begins with
        if piece.finish_reason is not None:
            events += self.parser.finish()
            self.finish_reason = finish_text(piece.finish_reason, has_called=self.parser.has_called)
            self.stop_reason = piece.stop_reason
        return events


class SingleAnswer:
    """The answer of an endpoint that draws one sample."""

    def __init__(self, context: ServerContext, asked: AskedConversation) -> None:
        [parser] = asked.parsers
        self.sample = Sample(parser)
        self._context = context
        self._call = asked.call
        self._counter = UsageCounter(asked.call.prompts)

    @property
    def usage(self) -> Usage:
        """Of what has been read so far."""
        return self._counter.usage()

    async def events(self) -> AsyncGenerator[list[AnswerEvent], None]:
        """A batch, perhaps empty, for each delta of the engine. Raises what `generate_all` raises."""
        async with aclosing(generate_all(self._context, self._call)) as news:
            async for item in news:
                self._counter.add(item.prompt_index, item.delta)
                yield [event for piece in item.delta.outputs for event in self.sample.read(piece)]
