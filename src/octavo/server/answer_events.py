"""What an answer is made of, as a stream: reasoning, text and tool calls. Every generating endpoint writes from it."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of what is said to the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it says something."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallBegin:
    """A call of function `name`; indexes are dense from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of call `index`'s arguments, as the model wrote them: JSON where it wrote JSON."""

    index: int
    text: str


AnswerEvent = TextDelta | ReasoningDelta | ToolCallBegin | ArgumentsDelta


@dataclass(slots=True)
class WholeCall:
    """A call and its arguments, as far as they have come."""

    id: str
    name: str
    fragments: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.fragments)


@dataclass(slots=True)
class WholeAnswer:
    """A stream of events put together."""

    texts: list[str] = field(default_factory=list)
    reasonings: list[str] = field(default_factory=list)
    calls: list[WholeCall] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.reasonings)

    def add(self, events: Iterable[AnswerEvent]) -> None:
        for event in events:
            if isinstance(event, TextDelta):
                self.texts.append(event.text)
            elif isinstance(event, ReasoningDelta):
                self.reasonings.append(event.text)
            elif isinstance(event, ToolCallBegin):
                assert event.index == len(self.calls), "calls begin in order"
                self.calls.append(WholeCall(event.id, event.name))
            else:
                self.calls[event.index].fragments.append(event.text)
