"""The grouping of layers: few groups, and next to no slot without a layer."""

import random

import pytest
from scheduler.traffic import full, windowed

from octavo.cache import CacheLayout, plan_layout
from octavo.core.cache_spec import CacheSpec, FullAttentionSpec, KVDtype, SlidingWindowSpec

W = 512


def gemma3(num_layers: int) -> list[CacheSpec]:
    return [windowed(16, W) if (layer + 1) % 6 else full(16) for layer in range(num_layers)]


def padding(layout: CacheLayout, *, is_full_only: bool = False) -> float:
    """The share of the slots of all groups, or of those without a window, that have no layer."""
    groups = [group for group in layout.groups if not (is_full_only and isinstance(group.spec, SlidingWindowSpec))]
    slots = len(groups) * len(layout.slot_bytes)
    return 1 - sum(len(group.layers) for group in groups) / slots if slots else 0.0


@pytest.mark.parametrize(
    ("specs", "group_size", "num_groups"),
    [
        ([full(16)] * 32, 32, 1),
        ([full(16)], 1, 1),
        (gemma3(18), 3, 6),
        (gemma3(26), 2, 13),
        (gemma3(34), 5, 7),
        (gemma3(48), 8, 6),
        (gemma3(62), 2, 31),
        ([full(16)] * 20 + [windowed(16, W)] * 21, 2, 21),
        ([full(16)] * 30 + [windowed(16, W)] * 29, 30, 2),
        ([full(16)] + [windowed(16, W)] * 27, 1, 28),
        ([full(16)] * 27 + [windowed(16, W)], 1, 28),
    ],
    ids=[
        "llama",
        "one",
        "gemma3-270m",
        "gemma3-1b",
        "gemma3-4b",
        "gemma3-12b",
        "gemma3-27b",
        "20+21",
        "30+29",
        "1+27",
        "27+1",
    ],
)
def test_group_sizes(specs: list[CacheSpec], group_size: int, num_groups: int) -> None:
    layout = plan_layout(specs)
    assert (len(layout.slot_bytes), len(layout.groups)) == (group_size, num_groups)
    assert padding(layout) <= 0.04
    assert padding(layout, is_full_only=True) <= 0.04


def test_a_long_context_wastes_no_more_than_a_short_one() -> None:
    """Groups of four would leave 3.1% of all slots unused, but 17% of those that a long context fills."""
    layout = plan_layout(gemma3(62))
    assert padding(layout, is_full_only=True) == 0.0


def test_every_layer_has_one_place() -> None:
    rng = random.Random(3)
    for _ in range(200):
        kinds = [full(16), windowed(16, 64), windowed(16, 256)]
        specs = [rng.choice(kinds[: rng.randrange(1, 4)]) for _ in range(rng.randrange(1, 70))]
        layout = plan_layout(specs)
        assert sorted(layer for group in layout.groups for layer in group.layers) == list(range(len(specs)))
        assert all(specs[layer] == group.spec for group in layout.groups for layer in group.layers)
        assert max(len(group.layers) for group in layout.groups) == len(layout.slot_bytes)
        assert padding(layout) <= 0.04


def test_blocks_of_different_bytes_share_slots_of_the_larger() -> None:
    """Where no grouping keeps the bound, the one that wastes least is taken."""
    small = FullAttentionSpec(block_size=16, num_kv_heads=1, key_head_dim=64, value_head_dim=64, dtype=KVDtype.BF16)
    large = FullAttentionSpec(block_size=16, num_kv_heads=2, key_head_dim=64, value_head_dim=64, dtype=KVDtype.BF16)
    layout = plan_layout([large, small] * 4)
    assert set(layout.slot_bytes) == {large.block_bytes}
    assert {len(group.layers) for group in layout.groups} == {4}
