"""Those who watch: each reads the ring at its own pace."""

import asyncio
from collections.abc import AsyncGenerator

from octavo.server.dashboard.ring import SnapshotRing
from octavo.server.errors import overloaded

MAX_VIEWERS = 32
HEARTBEAT_S = 2.0
HEARTBEAT = b": alive\n\n"


class Viewers:
    """Streams a ring's snapshots to at most `max_viewers`. Used on one event loop only.

    Each holds nothing but its place in the ring: one that reads slowly gets the newest snapshot when it has taken
    the one before, and misses those between.
    """

    def __init__(self, ring: SnapshotRing, max_viewers: int = MAX_VIEWERS, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._ring = ring
        self._max_viewers = max_viewers
        self._heartbeat_s = heartbeat_s
        self._news: set[asyncio.Event] = set()
        """One for each viewer."""
        self._is_closed = False

    @property
    def num_open(self) -> int:
        return len(self._news)

    def wake(self) -> None:
        """Call when the ring has a new snapshot."""
        for news in self._news:
            news.set()

    def close(self) -> None:
        """End all streams; there are no more."""
        self._is_closed = True
        self.wake()

    async def events(self, last_event_id: str) -> AsyncGenerator[bytes, None]:
        """A comment, then events from behind `last_event_id`, or the oldest there is; comments while there are none.

        Raises `ApiError` (503) before the first where there are too many viewers, or nothing more to see.
        """
        if self._is_closed:
            raise overloaded("nothing more is shown; the server is ending, or its log says why", code="dashboard_ended")
        if len(self._news) >= self._max_viewers:
            raise overloaded(
                f"{self._max_viewers} dashboards are open, which is as many as this server feeds; close one, or read "
                "/dashboard/snapshot",
                code="too_many_viewers",
            )
        news = asyncio.Event()
        self._news.add(news)
        try:
            last_id = self._ring.last_read(last_event_id)
            caught_up_id = self._ring.newest.id
            yield HEARTBEAT
            while not self._is_closed:
                snapshot = self._ring.after(last_id) if last_id < caught_up_id else self._ring.newest
                if snapshot.id > last_id:
                    last_id = snapshot.id
                    yield self._ring.event(snapshot)
                    await asyncio.sleep(0)  # others have their turn between those of a whole ring
                elif not await self._wait(news):
                    yield HEARTBEAT
        finally:
            self._news.discard(news)

    async def _wait(self, news: asyncio.Event) -> bool:
        """For a new snapshot; False where the time for a heartbeat has come first."""
        try:
            await asyncio.wait_for(news.wait(), self._heartbeat_s)
        except asyncio.TimeoutError:
            return False
        news.clear()
        return True
