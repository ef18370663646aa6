"""How layers share one pool of blocks.

Layers with equal `CacheSpec`s keep and drop the same positions, so they share a block table: they
form groups. All groups draw on one pool, so memory goes to whichever needs it. For that, every
group has (at most) the same number of layers, and a block is one slot in each of that many tensors
(a group with fewer layers leaves the slots of the other tensors unused):

    Gemma 3 270M: 15 sliding-window layers (s), 3 full ones (F), groups of 3 layers
                 tensor 0   tensor 1   tensor 2
    group 0       layer 0    layer 1    layer 2     (s)    a block of group 0 holds 16 tokens
    …                                                      of its three layers
    group 5       layer 5    layer 11   layer 17    (F)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octavo.core.cache_spec import CacheSpec, SlidingWindowSpec


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers that share a block table; `layers[i]` lives in tensor i."""

    spec: CacheSpec
    layers: tuple[int, ...]

    def max_blocks(self, num_tokens: int, max_chunk_tokens: int) -> int:
        """Most blocks held at once while `num_tokens` tokens are computed in chunks of at most `max_chunk_tokens`."""
        block_size = self.spec.block_size
        blocks = -(-num_tokens // block_size)
        if isinstance(self.spec, SlidingWindowSpec):
            span = self.spec.window - 1 + max_chunk_tokens
            return min(blocks, -(-span // block_size) + 1)
        return blocks


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The groups, and the bytes of each tensor's slot of a block."""

    groups: tuple[CacheGroup, ...]
    slot_bytes: tuple[int, ...]

    @property
    def block_size(self) -> int:
        return self.groups[0].spec.block_size

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all tensors."""
        return sum(self.slot_bytes)

    def max_blocks(self, num_tokens: int, max_chunk_tokens: int) -> int:
        """Most blocks that one request of `num_tokens` tokens holds at once."""
        return sum(group.max_blocks(num_tokens, max_chunk_tokens) for group in self.groups)


MAX_WASTE = 0.04
"""The share of the cache's bytes that no layer can use."""


def plan_layout(specs: Sequence[CacheSpec]) -> CacheLayout:
    """Group the layers of a model, given each layer's spec.

    Large groups are cheaper to schedule (one block table a group), small ones leave fewer slots
    unused: the group size is the largest that wastes at most `MAX_WASTE`, at whatever context. A
    size of 1 wastes nothing where all layers' blocks are of one size; where they are not, and no
    size keeps the bound, it is the one that wastes least. O(layers²).
    """
    layers_of: dict[CacheSpec, list[int]] = {}
    for layer, spec in enumerate(specs):
        layers_of.setdefault(spec, []).append(layer)
    assert layers_of, "a model without attention layers needs no KV cache"
    assert len({spec.block_size for spec in layers_of}) == 1, "one block size for all layers"
    best: CacheLayout | None = None
    least_waste = math.inf
    for group_size in range(max(len(layers) for layers in layers_of.values()), 0, -1):
        layout = _layout(layers_of, group_size)
        waste = _largest_waste(layout)
        if waste <= MAX_WASTE:
            return layout
        if waste < least_waste:
            best, least_waste = layout, waste
    assert best is not None
    return best


def _layout(layers_of: Mapping[CacheSpec, Sequence[int]], group_size: int) -> CacheLayout:
    groups = tuple(
        CacheGroup(spec, tuple(layers[start : start + group_size]))
        for spec, layers in layers_of.items()
        for start in range(0, len(layers), group_size)
    )
    slot_bytes = tuple(
        max(group.spec.block_bytes for group in groups if slot < len(group.layers)) for slot in range(group_size)
    )
    return CacheLayout(groups, slot_bytes)


def _largest_waste(layout: CacheLayout) -> float:
    """The share of the bytes of a request's blocks that no layer uses, at the worst context.

    A short request holds as many blocks of every group; a long one holds more of the groups that reach
    further back. So the blocks held are a mix, with weights ≥ 0, of «all groups that reach at least
    this far», for each reach, and no mix wastes more than its worst part.
    """
    by_reach: dict[float, list[CacheGroup]] = {}
    for group in layout.groups:
        reach = group.spec.window if isinstance(group.spec, SlidingWindowSpec) else math.inf
        by_reach.setdefault(reach, []).append(group)
    held = used = 0
    worst = 0.0
    for reach in sorted(by_reach, reverse=True):
        held += len(by_reach[reach]) * layout.block_bytes
        used += sum(len(group.layers) * group.spec.block_bytes for group in by_reach[reach])
        worst = max(worst, 1 - used / held)
    return worst
