"""Prefixes, windows, copies on write, waste."""

import random

import pytest
from cache.prompts import compute, make_request, run
from scheduler.traffic import full, make_samples, windowed

from octavo.cache import NULL_BLOCK, KVCacheManager, plan_layout
from octavo.core.cache_spec import CacheSpec
from octavo.core.sampling_params import SamplingParams


def test_full_blocks_are_reused_but_never_the_last_token() -> None:
    manager = KVCacheManager(plan_layout([full(4)]), 16)
    tokens = list(range(12))
    first = make_request(tokens, "a")
    assert run(manager, first) == 0
    manager.free(first)
    assert run(manager, make_request(tokens, "b")) == 8
    assert run(manager, make_request([*tokens, 1], "c")) == 12
    assert run(manager, make_request([9, *tokens], "d")) == 0
    manager.pool.check_conserved()


def test_salts_do_not_share() -> None:
    manager = KVCacheManager(plan_layout([full(4)]), 16)
    run(manager, make_request(list(range(12)), "a", "one"))
    assert run(manager, make_request(list(range(12)), "b", "two")) == 0
    assert run(manager, make_request(list(range(12)), "c", "one")) == 8


def test_a_window_gives_back_what_it_passed() -> None:
    manager = KVCacheManager(plan_layout([windowed(4, 6)]), 16)
    request = make_request(list(range(40)))
    manager.admit(request, manager.match_prefix(request))
    for _ in range(10):
        compute(manager, request, 4)
        [table] = manager.block_tables(request)
        assert sum(block != NULL_BLOCK for block in table) <= 4
    [table] = manager.block_tables(request)
    assert table[:7] == [NULL_BLOCK] * 7
    manager.free(request)
    assert manager.pool.num_held == 0


def test_a_windowed_prefix_needs_only_its_last_window() -> None:
    manager = KVCacheManager(plan_layout([windowed(4, 6)]), 5)
    request = make_request(list(range(40)), "a")
    manager.admit(request, manager.match_prefix(request))
    for _ in range(10):
        compute(manager, request, 4)
    manager.free(request)
    match = manager.match_prefix(make_request(list(range(41)), "b"))
    assert match.num_tokens == 40
    assert sum(block != NULL_BLOCK for blocks in match.blocks for block in blocks) == 2
    [blocks] = match.blocks
    assert blocks[:8] == [NULL_BLOCK] * 8


def test_groups_of_a_hybrid_agree_on_the_prefix() -> None:
    layout = plan_layout([windowed(4, 6), full(4)])
    manager = KVCacheManager(layout, 24)
    request = make_request(list(range(20)), "a")
    run(manager, request)
    manager.free(request)
    match = manager.match_prefix(make_request(list(range(20)), "b"))
    assert match.num_tokens == 16
    assert [sum(block != NULL_BLOCK for block in blocks) for blocks in match.blocks] == [2, 4]


def test_a_shared_block_is_copied_before_it_is_written() -> None:
    manager = KVCacheManager(plan_layout([full(4)]), 8)
    leader, follower = make_samples("r", list(range(6)), SamplingParams(n=2))
    run(manager, leader)
    manager.fork(leader, follower, 6)
    follower.num_computed_tokens = 5
    manager.take_updates(follower)
    shared = manager.block_tables(leader)[0]
    compute(manager, follower, 1)
    own = manager.block_tables(follower)[0]
    assert own[0] == shared[0]
    assert own[1] != shared[1]
    [copy] = manager.take_copies()
    assert (copy.source, copy.target) == (shared[1], own[1])
    [update] = manager.take_updates(follower)
    assert (update.start, update.block_ids) == (1, [own[1]])
    leader.token_ids.append(1)
    compute(manager, leader, 1)
    assert manager.take_copies() == []  # nobody else reads it now
    manager.pool.check_conserved()


def test_nothing_is_taken_where_the_pool_is_short() -> None:
    manager = KVCacheManager(plan_layout([full(4), windowed(4, 8)]), 5)
    request = make_request(list(range(40)))
    manager.admit(request, manager.match_prefix(request))
    assert not manager.allocate(request, 12)
    assert manager.pool.num_free == 5
    assert manager.allocate(request, 8)


HYBRIDS: dict[str, list[CacheSpec]] = {
    "full": [full(16)] * 32,
    "gemma3-270m": ([windowed(16, 512)] * 5 + [full(16)]) * 3,
    "gemma3-1b": ([windowed(16, 512)] * 5 + [full(16)]) * 4 + [windowed(16, 512)] * 2,
    "gemma3-27b": ([windowed(16, 1024)] * 5 + [full(16)]) * 10 + [windowed(16, 1024)] * 2,
    "interleaved": [windowed(16, 128), full(16)] * 20 + [windowed(16, 128)],
    "two windows": [windowed(16, 64)] * 9 + [windowed(16, 256)] * 10 + [full(16)] * 9,
}


@pytest.mark.parametrize("name", HYBRIDS)
def test_waste(name: str) -> None:
    """64 requests of mixed length, held at once: under 4% of the allocated slots can serve no layer.

    A slot is one token's place in one tensor of a block. It is of use if its group has a layer there
    and the token can still be read, or, in a request's last block, is still to come: blocks are sixteen
    tokens, so the unreadable start of a window's first block is the block's, not the layout's.
    """
    rng = random.Random(0)
    layout = plan_layout(HYBRIDS[name])
    manager = KVCacheManager(layout, 200_000, enable_prefix_caching=False)
    num_tensors = len(layout.slot_bytes)
    allocated = useful = 0
    for index in range(64):
        request = make_request([rng.randrange(99) for _ in range(rng.randrange(1, 3000))], str(index))
        manager.admit(request, manager.match_prefix(request))
        while request.num_computed_tokens < request.num_tokens:
            compute(manager, request, min(256, request.num_tokens - request.num_computed_tokens))
        for _ in range(rng.randrange(16, 64)):  # decode: what a window has passed is given back
            request.token_ids.append(1)
            compute(manager, request, 1)
        for group, table in zip(layout.groups, manager.block_tables(request), strict=True):
            first_block = group.spec.first_readable_token(request.num_tokens - 1) // 16
            for position, block in enumerate(table):
                if block != NULL_BLOCK:
                    allocated += 16 * num_tensors
                    useful += 16 * len(group.layers) if position >= first_block else 0
    assert manager.pool.num_held * 16 * num_tensors == allocated
    assert 1 - useful / allocated < 0.04


def test_layout_groups_share_tensors() -> None:
    specs = [windowed(4, 6)] * 5 + [full(4)] + [windowed(4, 6)] * 5 + [full(4)]
    layout = plan_layout(specs)
    assert len(layout.slot_bytes) == 2
    assert sorted(layer for group in layout.groups for layer in group.layers) == list(range(12))
    assert {len(group.layers) for group in layout.groups} == {2}
