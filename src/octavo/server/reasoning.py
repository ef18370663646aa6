"""The part of an answer between «<think>» and «</think>», split from what is said to the user."""

from octavo.core.strenum import StrEnum
from octavo.server.answer_events import AnswerEvent, ReasoningDelta, TextDelta

OPENING, CLOSING = "<think>", "</think>"


class _State(StrEnum):
    BEFORE = "before"
    INSIDE = "inside"
    AFTER = "after"
    """Behind the closing: white space up to the answer is dropped."""
    TEXT = "text"


class ReasoningParser:
    """Splits one answer. White space at the markers belongs to neither side.

    Only what the answer begins with can be reasoning; with `is_open`, the prompt's end has opened it already.
    The text is read character by character, so the events do not depend on how it was cut.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._state = _State.INSIDE if is_open else _State.BEFORE
        self._held: list[str] = []
        """White space, then the beginning of a marker; characters, as a text would be copied for each that is added."""
        self._num_matched = 0
        """Characters of the marker at the end of `_held`."""
        self._has_reasoning = False
        self._reasoning: list[str] = []

    @property
    def is_inside(self) -> bool:
        """Whether the opening was read and the closing was not."""
        return self._state is _State.INSIDE

    def push(self, text: str) -> list[AnswerEvent]:
        """Take the next piece; the events that it makes certain."""
        rest = ""
        for at, char in enumerate(text):
            if self._state is _State.TEXT:
                rest = text[at:]
                break
            self._read(char)
        events: list[AnswerEvent] = []
        if self._reasoning:
            events.append(ReasoningDelta("".join(self._reasoning)))
            self._reasoning.clear()
        if self._state is _State.TEXT and (self._held or rest):
            events.append(TextDelta(self._take_held() + rest))
        return events

    def finish(self) -> list[AnswerEvent]:
        """The events that were held back: no further text comes."""
        if not self._held or self._state is _State.AFTER:
            return []
        held = self._take_held()
        return [ReasoningDelta(held) if self._state is _State.INSIDE else TextDelta(held)]

    def _take_held(self) -> str:
        held = "".join(self._held)
        self._held.clear()
        return held

    def _read(self, char: str) -> None:
        if self._state is _State.AFTER:
            if not char.isspace():
                self._state = _State.TEXT
                self._held.append(char)
            return
        marker = OPENING if self._state is _State.BEFORE else CLOSING
        if char == marker[self._num_matched]:
            self._held.append(char)
            self._num_matched += 1
            if self._num_matched == len(marker):
                self._pass_marker()
        elif char.isspace() and not self._num_matched:
            self._held.append(char)
        elif self._state is _State.BEFORE:
            self._state = _State.TEXT
            self._held.append(char)
        else:
            self._read_reasoning(char)

    def _pass_marker(self) -> None:
        self._state = _State.INSIDE if self._state is _State.BEFORE else _State.AFTER
        self._held.clear()
        self._num_matched = 0

    def _read_reasoning(self, char: str) -> None:
        """What is held turned out to be reasoning; `char` is, or begins the marker anew."""
        was_marker = self._num_matched > 0
        held = self._take_held()
        self._reasoning.append(held if self._has_reasoning else held.lstrip())
        self._has_reasoning = True
        self._num_matched = 0
        if was_marker:
            self._read(char)
        else:
            self._reasoning.append(char)
