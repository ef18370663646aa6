"""Long work in pieces: a C function that walks over a million items would keep the interpreter's lock to its end."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

PIECE_LEN = 1 << 14


def in_pieces(items: Iterable[Item]) -> Iterator[list[Item]]:
    """All of them in order, `PIECE_LEN` at a time; other threads get their turn between pieces."""
    left = iter(items)
    while piece := list(islice(left, PIECE_LEN)):
        yield piece
