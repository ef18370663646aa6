"""The items of a response and the events that tell of them, from the events of its answer."""

from collections.abc import Iterator, Sequence
from typing import Any

from octavo.server.answer import new_id
from octavo.server.answer_events import AnswerEvent, ArgumentsDelta, ReasoningDelta, TextDelta
from octavo.server.responses.replies import (
    FunctionCallItem,
    ItemStatus,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseEvent,
)


class OutputWriter:
    """One item after the other: a new one begins where reasoning, text and calls take turns."""

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        """Those that have ended."""
        self._num_events = 0
        self._open: OutputItem | None = None
        self._pieces: list[str] = []

    def event(self, kind: str, **fields: Any) -> ResponseEvent:
        """The next event of the response, whichever it is."""
        event = ResponseEvent(type=kind, sequence_number=self._num_events, **fields)
        self._num_events += 1
        return event

    def write(self, events: Sequence[AnswerEvent]) -> list[ResponseEvent]:
        return [written for event in events for written in self._write(event)]

    def finish(self, status: ItemStatus) -> list[ResponseEvent]:
        """End the last item; an answer without any gets a message that says nothing."""
        begun = [] if self._open is not None or self.items else list(self._begin(_new_message()))
        return [*begun, *self._end(status)]

    def _write(self, event: AnswerEvent) -> Iterator[ResponseEvent]:
        if isinstance(event, TextDelta):
            if not isinstance(self._open, MessageItem):
                yield from self._begin(_new_message())
            yield self._delta("response.output_text.delta", event.text, content_index=0, logprobs=[])
        elif isinstance(event, ReasoningDelta):
            if not isinstance(self._open, ReasoningItem):
                yield from self._begin(ReasoningItem(id=new_id("rs", "_"), status="in_progress", content=[]))
            yield self._delta("response.reasoning_text.delta", event.text, content_index=0)
        elif isinstance(event, ArgumentsDelta):
            assert isinstance(self._open, FunctionCallItem), "a call's arguments follow its beginning"
            yield self._delta("response.function_call_arguments.delta", event.text)
        else:
            call = FunctionCallItem(
                id=new_id("fc", "_"), status="in_progress", call_id=event.id, name=event.name, arguments=""
            )
            yield from self._begin(call)

    def _begin(self, item: OutputItem) -> Iterator[ResponseEvent]:
        yield from self._end("completed")
        self._open, self._pieces = item, []
        yield self._of_item("response.output_item.added", item=item)
        if not isinstance(item, FunctionCallItem):
            yield self._of_part("response.content_part.added", item, "")

    def _delta(self, kind: str, text: str, **fields: Any) -> ResponseEvent:
        self._pieces.append(text)
        return self._of_content(kind, delta=text, **fields)

    def _end(self, status: ItemStatus) -> Iterator[ResponseEvent]:
        if self._open is None:
            return
        item, text = self._open, "".join(self._pieces)
        if isinstance(item, FunctionCallItem):
            yield self._of_content("response.function_call_arguments.done", name=item.name, arguments=text)
        elif isinstance(item, MessageItem):
            yield self._of_content("response.output_text.done", content_index=0, text=text, logprobs=[])
            yield self._of_part("response.content_part.done", item, text)
        else:
            yield self._of_content("response.reasoning_text.done", content_index=0, text=text)
            yield self._of_part("response.content_part.done", item, text)
        ended = _ended(item, text, status)
        yield self._of_item("response.output_item.done", item=ended)
        self._open = None
        self.items.append(ended)

    def _of_item(self, kind: str, **fields: Any) -> ResponseEvent:
        return self.event(kind, output_index=len(self.items), **fields)

    def _of_content(self, kind: str, **fields: Any) -> ResponseEvent:
        assert self._open is not None
        return self._of_item(kind, item_id=self._open.id, **fields)

    def _of_part(self, kind: str, item: MessageItem | ReasoningItem, text: str) -> ResponseEvent:
        part = OutputText(text=text) if isinstance(item, MessageItem) else ReasoningText(text=text)
        return self._of_content(kind, content_index=0, part=part)


def _new_message() -> MessageItem:
    return MessageItem(id=new_id("msg", "_"), status="in_progress", content=[])


def _ended(item: OutputItem, text: str, status: ItemStatus) -> OutputItem:
    if isinstance(item, MessageItem):
        return MessageItem(id=item.id, status=status, content=[OutputText(text=text)])
    if isinstance(item, ReasoningItem):
        return ReasoningItem(id=item.id, status=status, content=[ReasoningText(text=text)])
    return FunctionCallItem(id=item.id, status=status, call_id=item.call_id, name=item.name, arguments=text)
