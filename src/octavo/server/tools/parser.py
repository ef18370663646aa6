"""Tool calls read out of an answer that arrives piece by piece.

    before ──opening──▶ opening… ──▶ call ──▶ after ──closing──▶ before
                                      ▲         │
                                      └separator┘

The text is read character by character, so the events do not depend on how it was cut; in constant time each.
What may belong to a call is kept in `_held` until it does: then it is dropped, being the format's and not the
answer's. Where it turns out not to, it is text; behind a call, it is first read again as such. What the answer's end
leaves open is text too, but where the answer can hold nothing but calls, and right behind a call.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from octavo.core.strenum import StrEnum
from octavo.server.answer_events import AnswerEvent, ArgumentsDelta, TextDelta, ToolCallBegin
from octavo.server.tools.calls import CallReader, CallStatus
from octavo.server.tools.frame import Frame


class _State(StrEnum):
    BEFORE = "before"
    """In text: `_held` is white space, then the beginning of the opening."""
    OPENING = "opening"
    CALL = "call"
    AFTER = "after"
    """Behind a call: `_held` is white space, then the beginning of the closing."""


@dataclass(slots=True)
class _Out:
    """Events being made, neighbours of one kind joined."""

    events: list[AnswerEvent] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        if text:
            self.texts.append(text)

    def add(self, event: AnswerEvent) -> None:
        self.end_text()
        self.events.append(event)

    def end_text(self) -> None:
        if self.texts:
            self.events.append(TextDelta("".join(self.texts)))
            self.texts.clear()

    def take(self) -> list[AnswerEvent]:
        self.end_text()
        taken, self.events = self.events, []
        return taken


class ToolCallParser:
    """Splits one answer into text and tool calls. White space at a call's edges belongs to the format.

    A call begins when its name and the first character of its arguments are known; arguments are passed on as
    they come. What breaks off later is a call whose arguments end there. With `is_forced` the answer is held to calls.
    """

    def __init__(self, frame: Frame, new_id: Callable[[], str], *, is_forced: bool = False) -> None:
        self._frame = frame
        self._new_id = new_id
        self.is_forced = is_forced
        self._state = _State.BEFORE
        self._held: list[str] = []
        """Characters: a text would be copied for each that is added."""
        self._num_markers = 0
        """Of the opening or closing, those that were read."""
        self._marker = ""
        """The beginning of the next."""
        self._call: CallReader = frame.make_call()
        self._has_begun = False
        self._num_calls = 0
        self._has_text = False
        """Since the beginning, or since the last call."""
        self._out = _Out()

    def push(self, text: str) -> list[AnswerEvent]:
        """Take the next piece; the events that it makes certain."""
        for char in text:
            self._read(char)
        self._end_arguments()
        return self._out.take()

    def finish(self) -> list[AnswerEvent]:
        """The events that were held back: no further text comes."""
        is_behind_call = self._num_calls > 0 and not self._has_text
        if not self.is_forced and not is_behind_call:
            self._give_up()
        self._held.clear()
        return self._out.take()

    def _read(self, char: str) -> None:
        if self._state is _State.CALL:
            self._read_call(char)
        elif self._state is _State.AFTER:
            self._read_after(char)
        elif self._state is _State.OPENING:
            self._read_opening(char)
        else:
            self._read_text(char)

    def _read_text(self, char: str) -> None:
        """Text, white space, or a character of the opening's first marker."""
        if self._matches(char, self._frame.opening):
            self._held.append(char)
            if self._num_markers:
                self._enter(_State.CALL if len(self._frame.opening) == 1 else _State.OPENING)
            return
        if self._marker:
            self._give_up()
            self._read_text(char)
        elif char.isspace():
            self._held.append(char)
        elif self._is_bare_call(char):
            self._enter(_State.CALL)
            self._read_call(char)
        else:
            self._give_up()
            self._out.add_text(char)
            self._has_text = True

    def _read_opening(self, char: str) -> None:
        if self._matches(char, self._frame.opening) or (char.isspace() and not self._marker):
            self._held.append(char)
            if self._num_markers == len(self._frame.opening):
                self._enter(_State.CALL)
            return
        self._give_up()
        self._read_text(char)

    def _read_call(self, char: str) -> None:
        status = self._call.read(char)
        if status is CallStatus.BROKEN:
            if self._has_begun:
                self._end_call()
                self._read_after(char)
            else:
                self._give_up()
                self._read_text(char)
            return
        if not self._has_begun:
            self._held.append(char)
            self._begin_call()
        if status is CallStatus.DONE:
            self._end_call()

    def _begin_call(self) -> None:
        arguments = self._call.take_arguments()
        if not arguments:
            return
        assert self._call.name is not None
        self._out.add(ToolCallBegin(self._num_calls, self._new_id(), self._call.name))
        self._out.add(ArgumentsDelta(self._num_calls, arguments))
        self._has_begun = True
        self._held.clear()

    def _end_arguments(self) -> None:
        if self._has_begun:
            arguments = self._call.take_arguments()
            if arguments:
                self._out.add(ArgumentsDelta(self._num_calls, arguments))

    def _end_call(self) -> None:
        self._end_arguments()
        self._num_calls += 1
        self._has_text = False
        self._enter(_State.AFTER if self._frame.closing or self._frame.separator else _State.BEFORE)

    def _read_after(self, char: str) -> None:
        if char == self._frame.separator and not self._num_markers and not self._marker:
            self._held.append(char)
            self._enter(_State.CALL)
        elif self._matches(char, self._frame.closing) or (char.isspace() and not self._marker):
            self._held.append(char)
            if self._frame.closing and self._num_markers == len(self._frame.closing):
                self._held.clear()
                self._enter(_State.BEFORE)
        else:
            held, self._held = self._held, []
            self._enter(_State.BEFORE)
            for earlier in held:
                self._read_text(earlier)
            self._read_text(char)

    def _matches(self, char: str, markers: tuple[str, ...]) -> bool:
        """Whether `char` goes on with the next of `markers`; takes it if so."""
        if self._frame.is_only_at_start and self._state is _State.BEFORE and (self._has_text or self._num_calls):
            return False
        if self._num_markers == len(markers) or markers[self._num_markers][len(self._marker)] != char:
            return False
        self._marker += char
        if self._marker == markers[self._num_markers]:
            self._num_markers += 1
            self._marker = ""
        return True

    def _is_bare_call(self, char: str) -> bool:
        return self._frame.is_bare_at_start and char == "{" and not (self._has_text or self._num_calls)

    def _give_up(self) -> None:
        """What is held is text."""
        self._out.add_text("".join(self._held))
        self._has_text = self._has_text or bool(self._held)
        self._held.clear()
        self._enter(_State.BEFORE)

    def _enter(self, state: _State) -> None:
        self._state = state
        self._num_markers, self._marker = 0, ""
        if state is _State.OPENING:
            self._num_markers = 1
        elif state is _State.CALL:
            self._call, self._has_begun = self._frame.make_call(), False
