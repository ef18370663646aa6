"""The ring of snapshots, and how a reader finds its place in it again."""

import pytest

from octavo.server.dashboard.ring import SnapshotRing


def make_ring(num_snapshots: int, capacity: int = 5) -> SnapshotRing:
    ring = SnapshotRing("boot", capacity)
    for number in range(1, num_snapshots + 1):
        ring.append(b"%d" % number)
    return ring


@pytest.mark.parametrize(("after", "found"), [(0, 4), (2, 4), (6, 7), (7, 8), (8, 8)])
def test_a_reader_gets_what_is_still_there(after: int, found: int) -> None:
    assert make_ring(8).after(after).id == found


def test_it_never_grows() -> None:
    ring = make_ring(10_000)
    assert ring.after(0).id == 9_996
    assert ring.newest == (10_000, b"10000")


def test_an_event_names_the_snapshot_and_the_start() -> None:
    ring = make_ring(2)
    assert ring.event(ring.newest) == b"id: boot:2\ndata: 2\n\n"
    assert ring.last_read("boot:2") == 2


@pytest.mark.parametrize(
    "last",
    ["", "2", "boot", "boot:", "boot:3", "boot:-1", "boot:1.0", "boot:²", "boot:" + "9" * 5000, "other:2", "x:boot:2"],
)
def test_an_id_that_is_none_of_its_own_is_as_none(last: str) -> None:
    assert make_ring(2).last_read(last) == 0
