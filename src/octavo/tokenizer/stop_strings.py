"""Finding stop strings in a text that arrives piece by piece.

Each stop string is looked for by itself (Knuth, Morris & Pratt 1977, SIAM J. Comput. 6(2)): where the text does not
go on as the string does, its fallbacks say how much of the string the text still ends with. The longest of these
beginnings is how much of the text must be held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class StopMatch:
    """Stop string `index` begins at character `start` of the text and is `length` characters long."""

    start: int
    index: int
    length: int


class StopMatcher:
    """Reads a text once. O(1) amortised per character and stop string, and per piece where no stop string begins."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = _with_fallbacks(tuple(stop))
        self._depths = [0] * len(stop)
        """How many first characters of each stop string the text ends with; never all of them."""
        self._first_chars = frozenset(text[0] for text in stop)
        self._num_read = 0

    @property
    def num_held(self) -> int:
        """How many of the last characters may begin a stop string."""
        return max(self._depths)

    def read(self, text: str) -> StopMatch | None:
        """Read on; of the stop strings that end within `text`, the one that starts first.

        Of those that start at the same character, the first listed wins.
        """
        begin = self._num_read
        self._num_read += len(text)
        if self._first_chars.isdisjoint(text) and not any(self._depths):
            return None
        best: StopMatch | None = None
        for index, (stop, _) in enumerate(self._stop):
            end = self._first_end(index, text)
            if end is not None:
                found = StopMatch(begin + end - len(stop), index, len(stop))
                if best is None or found.start < best.start:
                    best = found
        return best

    def _first_end(self, index: int, text: str) -> int | None:
        """Read on for one stop string; behind which character of `text` it first ends."""
        stop, fallbacks = self._stop[index]
        depth = self._depths[index]
        first_end = None
        for num_read, char in enumerate(text, start=1):
            while depth and stop[depth] != char:
                depth = fallbacks[depth - 1]
            if stop[depth] == char:
                depth += 1
            if depth == len(stop):
                first_end = first_end or num_read
                depth = fallbacks[depth - 1]
        self._depths[index] = depth
        return first_end


@lru_cache(maxsize=64)
def _with_fallbacks(stop: tuple[str, ...]) -> Sequence[tuple[str, Sequence[int]]]:
    """Worked out once for all prompts and samples of a request."""
    return [(text, _fallbacks(text)) for text in stop]


def _fallbacks(stop: str) -> Sequence[int]:
    """For each beginning of `stop`, how long the longest shorter beginning is that it ends with."""
    fallbacks = [0] * len(stop)
    depth = 0
    for at in range(1, len(stop)):
        while depth and stop[depth] != stop[at]:
            depth = fallbacks[depth - 1]
        if stop[depth] == stop[at]:
            depth += 1
        fallbacks[at] = depth
    return fallbacks
