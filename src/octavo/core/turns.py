"""Whose turn it is, where clients wait for one that serves them."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Items that wait, each client's in order. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()
        self._last = ""
        """The client that was served last."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, client: str, item: Item) -> None:
        self._waiting.setdefault(client, deque()).append(item)

    def take(self) -> Item:
        """The next one: of who has waited longest, and was not the last, if there is another. Raises `KeyError`."""
        if self._last in self._waiting:
            self._waiting.move_to_end(self._last)
        self._last, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[self._last] = items
        return item
