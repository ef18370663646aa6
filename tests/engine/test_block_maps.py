"""How often the KV blocks are shown, and that what is shown last stays true."""

import itertools

import pytest

from octavo.cache import BlockPool
from octavo.core.messages import BlockMap
from octavo.engine import block_maps
from octavo.engine.block_maps import MAP_PERIOD_S, BlockMaps


class Watched:
    """The maps of a pool of four blocks, under a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.shown: list[tuple[float, BlockMap]] = []
        self.pool = BlockPool(4)
        self.maps = BlockMaps(self.pool, lambda block_map: self.shown.append((self.now, block_map)), lambda: self.now)

    def gaps(self) -> list[float]:
        times = [time for time, _ in self.shown]
        return [after - before for before, after in itertools.pairwise(times)]


def test_four_a_second_while_there_are_steps() -> None:
    watched = Watched()
    for step in range(1, 1001):  # 10 s
        watched.now += 0.01
        watched.maps.after_step(step)
    assert 10 / MAP_PERIOD_S - 2 <= len(watched.shown) <= 10 / MAP_PERIOD_S


def test_requests_of_one_step_each_are_shown_no_oftener() -> None:
    watched = Watched()
    for step in range(1, 101):  # 3 s, with a rest behind each step
        watched.now += 0.03
        watched.maps.after_step(step)
        watched.maps.show_if_due()
    assert len(watched.shown) > 3 / MAP_PERIOD_S - 2
    assert min(watched.gaps()) >= MAP_PERIOD_S


def test_at_rest_what_stays_true_is_shown_once() -> None:
    watched = Watched()
    watched.maps.after_step(1)
    watched.pool.allocate(3)
    watched.maps.after_step(2)
    assert [block_map.step for _, block_map in watched.shown] == [1]
    for _ in range(10):
        watched.now += MAP_PERIOD_S
        watched.maps.show_if_due()
    assert [(block_map.step, block_map.num_private) for _, block_map in watched.shown] == [(1, 0), (2, 3)]


def test_before_the_first_step_nothing_is_shown() -> None:
    watched = Watched()
    watched.maps.show_if_due()
    assert watched.shown == []


def test_a_map_that_takes_long_is_made_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    make = block_maps.map_blocks

    def slowly(pool: BlockPool, step: int) -> BlockMap:
        watched.now += 0.0065
        return make(pool, step)

    monkeypatch.setattr(block_maps, "map_blocks", slowly)
    for step in range(1, 10_001):  # 100 s
        watched.now += 0.01
        watched.maps.after_step(step)
    assert len(watched.shown) >= 100 and 0.0065 * len(watched.shown) <= 0.01 * (watched.now - 100)
