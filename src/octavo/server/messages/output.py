"""The blocks of a message and the events that tell of them, from the events of its answer."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.core.json_limits import check_json_limits
from octavo.server.answer_events import AnswerEvent, ArgumentsDelta, ReasoningDelta, TextDelta
from octavo.server.messages.replies import (
    Content,
    ContentDelta,
    InputJsonDelta,
    MessagesEvent,
    TextContent,
    TextDeltaContent,
    ThinkingContent,
    ThinkingDeltaContent,
    ToolUseContent,
)

logger = logging.getLogger(__name__)


class BlockWriter:
    """One block after the other: a new one begins where thinking, text and calls take turns."""

    def __init__(self) -> None:
        self.blocks: list[Content] = []
        """Those that have ended."""
        self._open: Content | None = None
        self._pieces: list[str] = []

    def write(self, events: Sequence[AnswerEvent]) -> list[MessagesEvent]:
        return [written for event in events for written in self._write(event)]

    def finish(self) -> list[MessagesEvent]:
        """End the last block."""
        return list(self._end())

    def _write(self, event: AnswerEvent) -> Iterator[MessagesEvent]:
        if isinstance(event, TextDelta):
            if not isinstance(self._open, TextContent):
                yield from self._begin(TextContent(text=""))
            yield self._delta(event.text, TextDeltaContent(text=event.text))
        elif isinstance(event, ReasoningDelta):
            if not isinstance(self._open, ThinkingContent):
                yield from self._begin(ThinkingContent(thinking=""))
            yield self._delta(event.text, ThinkingDeltaContent(thinking=event.text))
        elif isinstance(event, ArgumentsDelta):
            assert isinstance(self._open, ToolUseContent), "a call's arguments follow its beginning"
            yield self._delta(event.text, InputJsonDelta(partial_json=event.text))
        else:
            yield from self._begin(ToolUseContent(id=event.id, name=event.name, input={}))

    def _begin(self, block: Content) -> Iterator[MessagesEvent]:
        yield from self._end()
        self._open, self._pieces = block, []
        yield MessagesEvent(type="content_block_start", index=len(self.blocks), content_block=block)

    def _delta(self, text: str, delta: ContentDelta) -> MessagesEvent:
        self._pieces.append(text)
        return MessagesEvent(type="content_block_delta", index=len(self.blocks), delta=delta)

    def _end(self) -> Iterator[MessagesEvent]:
        if self._open is None:
            return
        yield MessagesEvent(type="content_block_stop", index=len(self.blocks))
        self.blocks.append(_ended(self._open, "".join(self._pieces)))
        self._open = None


def _ended(block: Content, text: str) -> Content:
    if isinstance(block, TextContent):
        return TextContent(text=text)
    if isinstance(block, ThinkingContent):
        return ThinkingContent(thinking=text)
    return ToolUseContent(id=block.id, name=block.name, input=_read_input(block, text))


def _read_input(block: ToolUseContent, text: str) -> dict[str, Any]:
    """The arguments as an object; an empty one for what was cut off, or what no request could send back."""
    data = text.encode()
    try:
        check_json_limits(data)
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, InvalidRequestError):
        logger.info("call %s: its arguments are not a JSON object; a whole answer shows them as {}", block.id)
        return {}
