"""The pool: states, eviction order, keys."""

import pytest

from octavo.cache import NULL_BLOCK, BlockPool


def test_blocks_are_free_then_held_then_free() -> None:
    pool = BlockPool(3)
    blocks = pool.allocate(2)
    assert NULL_BLOCK not in blocks
    assert (pool.num_free, pool.num_cached, pool.num_held) == (1, 0, 2)
    pool.release(blocks)
    assert (pool.num_free, pool.num_cached, pool.num_held) == (3, 0, 0)
    pool.check_conserved()


def test_a_keyed_block_stays_findable_until_evicted_oldest_first() -> None:
    pool = BlockPool(3)
    blocks = pool.allocate(3)
    for index, block in enumerate(blocks):
        pool.set_keys([block], [bytes([index])])
    pool.release(blocks)
    assert pool.num_cached == 3
    pool.hold([blocks[0]])  # used again: now the youngest
    pool.release([blocks[0]])
    assert pool.allocate(1) == [blocks[1]]
    assert pool.find(bytes([1])) is None
    assert pool.find(bytes([0])) == blocks[0]
    assert pool.allocate(1) == [blocks[2]]
    pool.check_conserved()


def test_holding_a_cached_block_takes_it_from_eviction() -> None:
    pool = BlockPool(2)
    [block] = pool.allocate(1)
    pool.set_keys([block], [b"k"])
    pool.release([block])
    pool.hold([block, NULL_BLOCK])
    assert pool.num_held == 1
    assert pool.allocate(1) != [block]
    assert pool.num_available == 0
    pool.check_conserved()


def test_the_first_block_of_a_key_keeps_it() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(2)
    pool.set_keys([first], [b"k"])
    pool.set_keys([second], [b"k"])
    assert pool.find(b"k") == first
    pool.release([second])
    assert pool.num_free == 1
    pool.check_conserved()


def test_only_a_sole_holder_may_write_and_then_the_key_is_gone() -> None:
    pool = BlockPool(1)
    [block] = pool.allocate(1)
    pool.set_keys([block], [b"k"])
    pool.hold([block])
    assert not pool.make_writable(block)
    pool.release([block])
    assert pool.make_writable(block)
    assert pool.find(b"k") is None
    pool.check_conserved()


def test_releasing_too_often_is_a_bug() -> None:
    pool = BlockPool(1)
    [block] = pool.allocate(1)
    pool.release([block])
    with pytest.raises(AssertionError, match="more often"):
        pool.release([block])
