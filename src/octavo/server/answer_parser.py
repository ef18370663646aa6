"""One sample's text to the events of its answer: reasoning first, then text and tool calls."""

from collections.abc import Iterable, Iterator

from octavo.server.answer_events import AnswerEvent, ArgumentsDelta, ReasoningDelta, TextDelta, ToolCallBegin
from octavo.server.reasoning import ReasoningParser
from octavo.server.tools.parser import ToolCallParser


class AnswerParser:
    """Takes pieces of text as the engine gives them; joined, the events are the same however the text was cut.

    Without `reasoning` and `tools` a piece passes as it is.
    """

    def __init__(
        self,
        *,
        reasoning: ReasoningParser | None = None,
        tools: ToolCallParser | None = None,
        shows_reasoning: bool = True,
        is_parallel: bool = True,
    ) -> None:
        self._reasoning = reasoning
        self._tools = tools
        self._shows_reasoning = shows_reasoning
        self._is_parallel = is_parallel
        self.has_called = False

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next belongs to the reasoning."""
        return self._reasoning is not None and self._reasoning.is_inside

    @property
    def is_forced(self) -> bool:
        """Whether the answer is held to calls: it has no text."""
        return self._tools is not None and self._tools.is_forced

    def push(self, text: str) -> list[AnswerEvent]:
        """Take the next piece; the events that it makes certain."""
        if self._reasoning is None:
            return self._split(text)
        return self._through_tools(self._reasoning.push(text))

    def finish(self) -> list[AnswerEvent]:
        """The events that were held back: no further text comes."""
        events = [] if self._reasoning is None else self._through_tools(self._reasoning.finish())
        if self._tools is not None:
            events += self._kept(self._tools.finish())
        return events

    def _split(self, text: str) -> list[AnswerEvent]:
        if self._tools is not None:
            return list(self._kept(self._tools.push(text)))
        return [TextDelta(text)] if text else []

    def _through_tools(self, events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
        made: list[AnswerEvent] = []
        for event in events:
            if isinstance(event, TextDelta):
                made += self._split(event.text)
            elif not isinstance(event, ReasoningDelta) or self._shows_reasoning:
                made.append(event)
        return made

    def _kept(self, events: Iterable[AnswerEvent]) -> Iterator[AnswerEvent]:
        """All events but, where one call is all that was asked for, those of further ones."""
        for event in events:
            if not isinstance(event, (ToolCallBegin, ArgumentsDelta)):
                yield event
            elif self._is_parallel or event.index == 0:
                self.has_called = True
                yield event
