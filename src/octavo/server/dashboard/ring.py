"""The last snapshots, written once for all who read them."""

from collections import deque
from typing import NamedTuple

MAX_SNAPSHOTS = 240
"""A minute of a busy engine; at most 2 MiB."""
_MAX_ID_DIGITS = 18


class WrittenSnapshot(NamedTuple):
    """As it goes out."""

    id: int
    data: bytes
    """JSON."""


class SnapshotRing:
    """Holds the newest `capacity` snapshots, which it counts from 1. There is always one after the first `append`."""

    def __init__(self, boot_id: str, capacity: int = MAX_SNAPSHOTS) -> None:
        self.boot_id = boot_id
        self.next_id = 1
        self._snapshots: deque[WrittenSnapshot] = deque(maxlen=capacity)

    @property
    def newest(self) -> WrittenSnapshot:
        return self._snapshots[-1]

    def append(self, data: bytes) -> None:
        self._snapshots.append(WrittenSnapshot(self.next_id, data))
        self.next_id += 1

    def after(self, id: int) -> WrittenSnapshot:
        """The oldest with a larger id that is still there; the newest where none is larger. O(capacity)."""
        return next((snapshot for snapshot in self._snapshots if snapshot.id > id), self.newest)

    def event(self, snapshot: WrittenSnapshot) -> bytes:
        """As a server-sent event; its id names the server's start too."""
        return b"id: %b:%d\ndata: %b\n\n" % (self.boot_id.encode("ascii"), snapshot.id, snapshot.data)

    def last_read(self, last_event_id: str) -> int:
        """The id of the snapshot that a reader read last, by the id of its event; 0 where that is none of this ring's."""
        boot_id, _, number = last_event_id.partition(":")
        is_own = boot_id == self.boot_id and number.isascii() and number.isdecimal() and len(number) <= _MAX_ID_DIGITS
        id = int(number) if is_own else 0
        return id if id < self.next_id else 0
