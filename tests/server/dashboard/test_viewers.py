"""Those who watch: from where, how fast, how many, until when."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from octavo.server.dashboard.ring import SnapshotRing
from octavo.server.dashboard.viewers import HEARTBEAT, Viewers
from octavo.server.errors import ApiError

LONG_S = 60.0


def watching(test: Callable[[SnapshotRing, Viewers], Awaitable[None]], **options: float) -> None:
    async def main() -> None:
        ring = SnapshotRing("boot", capacity=4)
        ring.append(b"1")
        await test(ring, Viewers(ring, **{"heartbeat_s": LONG_S, **options}))  # type: ignore[arg-type]

    asyncio.run(main())


def publish(ring: SnapshotRing, viewers: Viewers, *numbers: int) -> None:
    for number in numbers:
        ring.append(b"%d" % number)
        viewers.wake()


def shown(events: bytes) -> list[int]:
    return [int(line[6:]) for line in events.decode().split("\n") if line.startswith("data: ")]


async def begin(viewers: Viewers, last_event_id: str = "") -> AsyncGenerator[bytes, None]:
    """A stream whose first comment has been read."""
    events = viewers.events(last_event_id)
    assert await anext(events) == HEARTBEAT
    return events


async def rest(events: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [event async for event in events]


def test_a_new_reader_gets_the_ring_and_then_what_comes() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        publish(ring, viewers, 2, 3, 4, 5, 6)
        events = await begin(viewers)
        assert [shown(await anext(events)) for _ in range(4)] == [[3], [4], [5], [6]]
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        publish(ring, viewers, 7)
        assert shown(await waiting) == [7]
        await events.aclose()

    watching(test)


@pytest.mark.parametrize(
    ("last", "found"), [("boot:1", [2, 3, 4]), ("boot:2", [3, 4]), ("old:2", [1, 2, 3, 4]), ("boot:3", [4])]
)
def test_a_reader_that_comes_back_goes_on_where_it_was(last: str, found: list[int]) -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        publish(ring, viewers, 2, 3)
        events = await begin(viewers, last)
        publish(ring, viewers, 4)
        assert [number for _ in found for number in shown(await anext(events))] == found

    watching(test)


def test_a_slow_reader_skips_to_the_newest() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        slow, quick = await begin(viewers), await begin(viewers)
        assert shown(await anext(slow)) == shown(await anext(quick)) == [1]
        for number in range(2, 50):
            publish(ring, viewers, number)
            assert shown(await anext(quick)) == [number]
        assert shown(await anext(slow)) == [49]
        publish(ring, viewers, 50)
        assert shown(await anext(slow)) == [50]

    watching(test)


def test_a_reader_that_falls_behind_while_it_catches_up_goes_on_with_the_oldest_there_is() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        publish(ring, viewers, 2, 3, 4)
        events = await begin(viewers)
        assert shown(await anext(events)) == [1]
        publish(ring, viewers, 5, 6)
        assert [shown(await anext(events)) for _ in range(3)] == [[3], [4], [6]]

    watching(test)


def test_what_comes_while_the_first_is_being_sent_is_not_lost() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        events = await begin(viewers)
        publish(ring, viewers, 2)
        assert shown(await anext(events)) == [1]
        assert shown(await anext(events)) == [2]

    watching(test)


def test_silence_is_broken_by_comments() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        events = await begin(viewers, "boot:1")
        assert [await anext(events) for _ in range(3)] == [HEARTBEAT] * 3

    watching(test, heartbeat_s=0.001)


def test_only_so_many_watch() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        first, _ = await begin(viewers), await begin(viewers)
        with pytest.raises(ApiError, match="2 dashboards are open") as refused:
            await anext(viewers.events(""))
        assert (refused.value.status, refused.value.code, viewers.num_open) == (503, "too_many_viewers", 2)
        await first.aclose()
        assert viewers.num_open == 1
        assert shown(await anext(await begin(viewers))) == [1]

    watching(test, max_viewers=2)


def test_all_streams_end_when_the_server_does() -> None:
    async def test(ring: SnapshotRing, viewers: Viewers) -> None:
        streams = [await begin(viewers, "boot:1") for _ in range(3)]
        endings = [asyncio.ensure_future(rest(events)) for events in streams]
        await asyncio.sleep(0)
        viewers.close()
        assert await asyncio.wait_for(asyncio.gather(*endings), 5) == [[], [], []]
        assert viewers.num_open == 0
        with pytest.raises(ApiError, match="log") as refused:
            await anext(viewers.events(""))
        assert (refused.value.status, refused.value.code) == (503, "dashboard_ended")

    watching(test)
