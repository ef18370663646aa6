"""What surrounds the tool calls in an answer, in the way that one kind of model writes them."""

from collections.abc import Callable
from dataclasses import dataclass

from octavo.server.tools.calls import CallReader, JsonCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """`opening call (separator call)* closing`, white space allowed in between.

    A marker's first character occurs in it only once, so that one that turns out not to be a marker can be given up
    without looking back; where the opening counts at the start only, what is given up has no other beginning to come.
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
            assert marker.count(marker[0]) == 1 or self.is_only_at_start, marker
        assert self.opening

    @property
    def marker(self) -> str | None:
        """What begins calls wherever it stands in the answer, where there is such a thing."""
        return None if self.is_only_at_start else self.opening[0]

    @property
    def has_unmarked_calls(self) -> bool:
        """Whether an answer may begin with calls without `marker`; it then begins with «{» for nothing else."""
        return self.is_only_at_start or self.is_bare_at_start
