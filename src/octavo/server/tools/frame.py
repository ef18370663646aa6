"""What surrounds the tool calls in an answer, in the way that one kind of model writes them."""

from collections.abc import Callable
from dataclasses import dataclass

from octavo.server.tools.calls import CallReader, JsonCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """`opening call (separator call)* closing`, white space allowed in between.

    A marker's first character occurs in it only once, so that one that turns out not to be a marker can be
    given up without looking back.
    """

    opening: tuple[str, ...]
    closing: tuple[str, ...] = ()
    separator: str | None = None
    make_call: Callable[[], CallReader] = JsonCall
    is_only_at_start: bool = False
    """The opening counts at the beginning of the answer alone: it is no marker, but what JSON begins with."""
    is_bare_at_start: bool = False
    """At the beginning of the answer a call needs no opening."""

    def __post_init__(self) -> None:
        for marker in (*self.opening, *self.closing):
            assert marker.count(marker[0]) == 1 or marker[0] == '"', marker
        assert self.opening
