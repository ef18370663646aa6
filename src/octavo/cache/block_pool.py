"""The pool of KV blocks: ids, reference counts, prefix keys and least-recently-used eviction.

A block is in exactly one of three states, which always add up to the pool (law 3):

    free     nobody reads it, it holds nothing worth keeping
    cached   nobody reads it, but it holds a prefix that a later request may reuse; evicted oldest first
    held     `ref_count` > 0 requests read it

Held blocks are private, with one reader, or shared. Every operation is O(1) a block (Kwon et al. 2023, arXiv:2309.06180, §4.2–4.3).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from octavo.core.messages import BlockState

NULL_BLOCK = 0
"""Stands in a block table where a block was given back or never needed. Never allocated, never read."""
_FREE, _CACHED, _PRIVATE, _SHARED = map(int, BlockState)


class BlockPool:
    """`num_blocks` blocks with ids 1 … num_blocks; id 0 is `NULL_BLOCK`."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.states = bytearray(num_blocks + 1)
        """Block id → `BlockState`, for views; written here alone."""
        self._ref_counts = [0] * (num_blocks + 1)
        self._free = list(range(num_blocks, 0, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._block_of_key: dict[bytes, int] = {}
        self._key_of_block: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_held(self) -> int:
        return self.num_blocks - len(self._free) - len(self._cached)

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can give: free ones, then cached ones by eviction."""
        return len(self._free) + len(self._cached)

    def ref_count(self, block: int) -> int:
        return self._ref_counts[block]

    def allocate(self, count: int) -> list[int]:
        """`count` blocks, each with one reference, holding nothing. The caller has checked `num_available`."""
        assert count <= self.num_available, f"{count} blocks asked of {self.num_available}"
        num_free = min(count, len(self._free))
        blocks = self._free[len(self._free) - num_free :]
        del self._free[len(self._free) - num_free :]
        for _ in range(count - num_free):
            block, _ = self._cached.popitem(last=False)
            del self._block_of_key[self._key_of_block.pop(block)]
            blocks.append(block)
        ref_counts, states = self._ref_counts, self.states
        for block in blocks:
            ref_counts[block] = 1
            states[block] = _PRIVATE
        return blocks

    def hold(self, blocks: Iterable[int]) -> None:
        """One reference more for each block; cached ones become held. `NULL_BLOCK`s are passed over."""
        for block in blocks:
            if block == NULL_BLOCK:
                continue
            if self._ref_counts[block] == 0:
                del self._cached[block]
            self.states[block] = _SHARED if self._ref_counts[block] else _PRIVATE
            self._ref_counts[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One reference less for each block, in order: of those that become cached, the first is evicted first."""
        ref_counts, key_of_block, cached, free = self._ref_counts, self._key_of_block, self._cached, self._free
        states = self.states
        for block in blocks:
            if block == NULL_BLOCK:
                continue
            count = ref_counts[block] - 1
            assert count >= 0, f"block {block} released more often than held"
            ref_counts[block] = count
            if count == 1:
                states[block] = _PRIVATE
            elif count == 0:
                if block in key_of_block:
                    cached[block] = None
                    states[block] = _CACHED
                else:
                    free.append(block)
                    states[block] = _FREE

    def set_keys(self, blocks: Sequence[int], keys: Sequence[bytes]) -> None:
        """Let later requests find these held, full blocks by their keys; a key already taken keeps its block."""
        block_of_key, key_of_block = self._block_of_key, self._key_of_block
        for block, key in zip(blocks, keys, strict=True):
            if block not in key_of_block and block_of_key.setdefault(key, block) == block:
                key_of_block[block] = key

    def find(self, key: bytes) -> int | None:
        return self._block_of_key.get(key)

    def make_writable(self, block: int) -> bool:
        """Whether its only holder may write into this block; if so, its prefix key is forgotten."""
        if self._ref_counts[block] != 1:
            return False
        key = self._key_of_block.pop(block, None)
        if key is not None:
            del self._block_of_key[key]
        return True

    def check_conserved(self) -> None:
        """Assert law 3 and the tables' agreement. O(num_blocks): for tests."""
        held = {block for block, count in enumerate(self._ref_counts) if count > 0}
        free, cached = set(self._free), set(self._cached)
        assert len(free) == len(self._free), "a block is free twice"
        assert not (free & cached or free & held or cached & held), "a block is in two states"
        assert free | cached | held == set(range(1, self.num_blocks + 1)), "a block is lost"
        assert cached <= set(self._key_of_block), "a cached block has no key"
        assert not free & set(self._key_of_block), "a free block has a key"
        private = {block for block in held if self._ref_counts[block] == 1}
        for state, blocks in zip(BlockState, (free, cached, private, held - private), strict=True):
            assert blocks == {b for b, shown in enumerate(self.states) if b != NULL_BLOCK and shown == state}
        assert {block: key for key, block in self._block_of_key.items()} == self._key_of_block
