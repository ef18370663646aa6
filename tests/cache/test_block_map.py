"""The picture of the pool says of each block what counting its holders would."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.cache import BlockPool
from octavo.cache import block_map as block_map_module
from octavo.cache.block_map import map_blocks, map_unused
from octavo.core.messages import BlockMap, BlockState


def naive_states(pool: BlockPool) -> list[BlockState]:
    """By the pool's own tables, block by block."""
    states = []
    for block in range(1, pool.num_blocks + 1):
        num_holders = pool.ref_count(block)
        if num_holders:
            states.append(BlockState.PRIVATE if num_holders == 1 else BlockState.SHARED)
        else:
            states.append(BlockState.CACHED if block in pool._cached else BlockState.FREE)
    return states


def naive_map(pool: BlockPool, max_cells: int) -> BlockMap:
    states = naive_states(pool)
    size = 1
    while -(-len(states) // size) > max_cells:
        size += 1
    cells = []
    for start in range(0, len(states), size):
        counts = Counter(states[start : start + size])
        cells.append(max(counts, key=lambda state: (counts[state], state)))
    totals = Counter(states)
    return BlockMap(7, *(totals[state] for state in BlockState), size, bytes(cells))


@given(
    num_blocks=st.integers(1, 40),
    max_cells=st.sampled_from([1, 3, 7, 40]),
    actions=st.lists(
        st.tuples(st.sampled_from(["allocate", "key", "hold", "release"]), st.integers(0, 39)), max_size=80
    ),
)
def test_the_map_is_what_counting_gives(num_blocks: int, max_cells: int, actions: list[tuple[str, int]]) -> None:
    pool = BlockPool(num_blocks)
    for number, (action, which) in enumerate(actions):
        held = [block for block in range(1, num_blocks + 1) if pool.ref_count(block)]
        if action == "allocate":
            pool.allocate(min(which % 4, pool.num_available))
        elif action == "hold" and pool.num_free < num_blocks:
            readable = held + list(pool._cached)
            pool.hold([readable[which % len(readable)]])
        elif held and action == "key":
            pool.set_keys([held[which % len(held)]], [number.to_bytes(2, "big")])
        elif held and action == "release":
            pool.release([held[which % len(held)]])
        pool.check_conserved()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_map_module, "MAX_CELLS", max_cells)
        assert map_blocks(pool, 7) == naive_map(pool, max_cells)


@pytest.mark.parametrize("num_blocks", [1, 4095, 4096, 4097, 100_000])
def test_however_large_the_pool_the_picture_is_small(num_blocks: int) -> None:
    pool = BlockPool(num_blocks)
    assert map_unused(num_blocks) == map_blocks(pool, 0)
    pool.allocate(num_blocks // 2)
    shown = map_blocks(pool, 1)
    assert len(shown.cells) == -(-num_blocks // shown.blocks_per_cell) <= 4096
    assert (shown.num_free, shown.num_private) == (num_blocks - num_blocks // 2, num_blocks // 2)
    assert shown.num_cached == shown.num_shared == 0
