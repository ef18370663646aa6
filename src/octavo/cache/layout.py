"""How layers share one pool of blocks.

Layers with equal `CacheSpec`s keep and drop the same positions, so they share a block table: they
form groups. All groups draw on one pool, so memory goes to whichever needs it. For that, every
group has (at most) the same number of layers, and a block is one slot in each of that many tensors:

    Gemma 3 270M: 15 sliding-window layers (s), 3 full ones (F), groups of 3 layers
                 tensor 0   tensor 1   tensor 2
    group 0       layer 0    layer 1    layer 2     (s)    a block of group 0 holds 16 tokens
    …                                                      of its three layers
    group 5       layer 5    layer 11   layer 17    (F)
"""

from collections.abc import Sequence
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


def plan_layout(specs: Sequence[CacheSpec]) -> CacheLayout:
    """Group the layers of a model, given each layer's spec.

    The group size is the smallest number of layers that share a spec; a spec whose layers do not
    divide by it leaves slots of its last group unused.
    """
    layers_of: dict[CacheSpec, list[int]] = {}
    for layer, spec in enumerate(specs):
        layers_of.setdefault(spec, []).append(layer)
    assert layers_of, "a model without attention layers needs no KV cache"
    assert len({spec.block_size for spec in layers_of}) == 1, "one block size for all layers"
    group_size = min(len(layers) for layers in layers_of.values())
    groups = tuple(
        CacheGroup(spec, tuple(layers[start : start + group_size]))
        for spec, layers in layers_of.items()
        for start in range(0, len(layers), group_size)
    )
    slot_bytes = tuple(
        max(group.spec.block_bytes for group in groups if slot < len(group.layers)) for slot in range(group_size)
    )
    return CacheLayout(groups, slot_bytes)
