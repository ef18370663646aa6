"""The plug point of tool calls: one file a format, one line in `registry.py`."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.server.schemas import Function
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules
from octavo.server.tools.parser import ToolCallParser

Message = dict[str, Any]


def openai_call_id() -> str:
    """«call_» and 24 letters and digits."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """How models of one kind call tools, and how they are made to."""

    name: str
    matches: Callable[[str], bool]
    """Whether the source of a chat template is of this kind."""
    frame: Frame
    write_calls: Callable[[CallRules], str]
    """Lark rules, of which `calls` is what one marker stands before: an answer is `marker calls (separator marker calls)*`."""
    separator: str | None = None
    """Between one run of calls and the next marker; None: the marker is not repeated."""
    markers: tuple[str, ...] = ()
    """Texts that may be special tokens of the tokenizer, and then must be seen in the answer all the same."""
    new_call_id: Callable[[], str] = openai_call_id
    write_messages: Callable[[Sequence[Function], list[Message]], list[Message]] | None = None
    """Writes functions, calls and results into a conversation as text, for chat templates that do not know them."""

    def parser(self, *, is_forced: bool) -> ToolCallParser:
        """A parser of one answer; with `is_forced`, of one that is held to calls."""
        return ToolCallParser(self.frame, self.new_call_id, is_forced=is_forced)
