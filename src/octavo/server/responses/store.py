"""Responses that were answered, kept in memory so that others can go on from them."""

from collections import OrderedDict
from dataclasses import dataclass, field

from octavo.server.errors import ApiError

MAX_RESPONSES = 4096
MAX_BYTES = 64 << 20
_OVERHEAD_BYTES = 512
"""Of an entry, besides what it holds."""


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """An answer as it went out, and the conversation up to its end."""

    reply: bytes
    messages: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.reply) + len(self.messages) + _OVERHEAD_BYTES


@dataclass(slots=True)
class _Shelf:
    """One client's responses, the oldest first."""

    kept: OrderedDict[str, KeptResponse] = field(default_factory=OrderedDict)
    num_bytes: int = 0


class ResponseStore:
    """Keeps each client's responses to itself, within `max_responses` and `max_bytes` for all together.

    Where there are too many, the oldest goes of the client that has the most of them; where they are too large, of the
    client that holds the most bytes: nobody loses any to one who has more.
    Used on the event loop only. `put` is O(clients) where it must make room.
    """

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._shelves: dict[str, _Shelf] = {}
        self._num_responses = 0
        self._num_bytes = 0

    def put(self, client: str, response_id: str, response: KeptResponse) -> None:
        """Keep it; one that has no room even alone is not kept."""
        shelf = self._shelves.setdefault(client, _Shelf())
        shelf.kept[response_id] = response
        shelf.num_bytes += response.num_bytes
        self._num_responses += 1
        self._num_bytes += response.num_bytes
        while self._num_responses > self._max_responses:
            self._remove_oldest(max(self._shelves, key=lambda name: len(self._shelves[name].kept)))
        while self._num_bytes > self._max_bytes:
            self._remove_oldest(max(self._shelves, key=lambda name: self._shelves[name].num_bytes))

    def get(self, client: str, response_id: str, param: str | None = None) -> KeptResponse:
        """Raises `ApiError` (404) for what is not this client's, or not there any more."""
        shelf = self._shelves.get(client)
        found = None if shelf is None else shelf.kept.get(response_id)
        if found is None:
            message = (
                f"there is no response {response_id[:200]!r}; it was not stored, was deleted, or had to make room; "
                "send the conversation as input"
            )
            raise ApiError(404, message, code="response_not_found", param=param)
        return found

    def delete(self, client: str, response_id: str) -> None:
        """Raises `ApiError` (404)."""
        self.get(client, response_id)
        self._remove(client, response_id)

    def _remove_oldest(self, client: str) -> None:
        self._remove(client, next(iter(self._shelves[client].kept)))

    def _remove(self, client: str, response_id: str) -> None:
        shelf = self._shelves[client]
        num_bytes = shelf.kept.pop(response_id).num_bytes
        shelf.num_bytes -= num_bytes
        self._num_responses -= 1
        self._num_bytes -= num_bytes
        if not shelf.kept:
            del self._shelves[client]
