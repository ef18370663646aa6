"""When a map comes with a step's report."""

from octavo.cache import BlockPool
from octavo.engine.block_maps import MAP_PERIOD_S, BlockMaps


def test_a_busy_engine_sends_four_a_second_and_a_resting_one_what_stays_true() -> None:
    now = 100.0
    pool = BlockPool(4)
    maps = BlockMaps(pool, clock=lambda: now)
    sent = []
    for _ in range(1000):  # 10 s of steps
        now += 0.01
        sent.append(maps.after_step(has_work=True))
    assert 10 / MAP_PERIOD_S - 2 <= sum(shown is not None for shown in sent) <= 10 / MAP_PERIOD_S
    pool.allocate(3)
    now += 0.001
    last = maps.after_step(has_work=False)
    assert last is not None and last.num_private == 3
