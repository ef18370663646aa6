"""Finding stop strings in a text that arrives piece by piece.

An automaton over all stop strings (Aho & Corasick 1975, CACM 18(6)) reads each character once. Its
state is the longest end of the text that begins a stop string; the depth of that state is how much
of the text must be held back.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StopMatch:
    """Stop string `index` begins at character `start` of the text and is `length` characters long."""

    start: int
    index: int
    length: int


@dataclass(slots=True)
class _State:
    depth: int
    next_states: dict[str, "_State"] = field(default_factory=dict)
    fallback: "_State | None" = None
    """The longest proper end of this state's text that is a state too; None at the root."""
    match_index: int = -1
    """The stop string that ends here and starts earliest: the longest; -1 for none."""
    match_length: int = 0


class StopMatcher:
    """Reads a text once. O(1) amortised per character, whatever the number of stop strings."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._root = _State(depth=0)
        for index, text in enumerate(stop):
            self._insert(index, text)
        self._link()
        self._state = self._root
        self._num_read = 0

    @property
    def num_held(self) -> int:
        """How many of the last characters may begin a stop string."""
        return self._state.depth

    def read(self, text: str) -> StopMatch | None:
        """Read on; of the stop strings that end within `text`, the one that starts first.

        Of those that start at the same character, the first listed wins.
        """
        best: StopMatch | None = None
        for char in text:
            state = self._step(char)
            self._num_read += 1
            if state.match_index >= 0:
                found = StopMatch(self._num_read - state.match_length, state.match_index, state.match_length)
                if best is None or (found.start, found.index) < (best.start, best.index):
                    best = found
        return best

    def _step(self, char: str) -> _State:
        state = self._state
        while (following := state.next_states.get(char)) is None:
            if state.fallback is None:
                following = state
                break
            state = state.fallback
        self._state = following
        return following

    def _insert(self, index: int, text: str) -> None:
        state = self._root
        for char in text:
            state = state.next_states.setdefault(char, _State(depth=state.depth + 1))
        if state.match_index < 0:
            state.match_index, state.match_length = index, len(text)

    def _link(self) -> None:
        """Set the fallbacks breadth first, and let a state inherit the match its fallback ends."""
        waiting = deque(self._root.next_states.values())
        for state in waiting:
            state.fallback = self._root
        while waiting:
            state = waiting.popleft()
            for char, child in state.next_states.items():
                fallback = state.fallback
                while fallback is not None and char not in fallback.next_states:
                    fallback = fallback.fallback
                child.fallback = self._root if fallback is None else fallback.next_states[char]
                if child.match_index < 0:
                    child.match_index = child.fallback.match_index
                    child.match_length = child.fallback.match_length
                waiting.append(child)
