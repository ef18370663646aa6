"""Request → block tables: the only place where KV blocks are given, shared and taken back."""

from dataclasses import dataclass
from functools import partial

from octavo.cache.block_pool import NULL_BLOCK, BlockPool
from octavo.cache.layout import CacheLayout
from octavo.cache.prefix_keys import extend_block_keys, group_suffix
from octavo.core.messages import BlockCopy, BlockTableUpdate
from octavo.core.request import Request

MIN_AWAITED_TOKENS = 256
"""A request waits for a prefix that another is computing from this length on; a shorter one it computes again."""


@dataclass(slots=True)
class _BlockTable:
    """One request's blocks in one cache group. Entries below `first_held` were given back."""

    blocks: list[int]
    first_held: int


@dataclass(slots=True)
class _Holding:
    """A request's block tables, all of one length. The counts spare a decode step the look at each table."""

    tables: list[_BlockTable]
    num_blocks: int
    num_keyed: int
    """Blocks before this entry were offered to the prefix cache."""
    num_told: int = 0
    """Entries before this one are known to the worker."""
    last_shared: int = -1
    """Entries up to this one may be shared with another sample of the prompt, and so not writable."""


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The longest cached prefix of a request: blocks a group, `NULL_BLOCK` where none is needed."""

    num_tokens: int
    blocks: tuple[list[int], ...]


class _PrefixLookup:
    """Which blocks of one prefix the pool still has, in each group; each is looked up once."""

    def __init__(self, pool: BlockPool, keys: list[bytes], num_groups: int) -> None:
        self._pool = pool
        self._keys = keys
        self._suffixes = [group_suffix(group) for group in range(num_groups)]
        self._found: list[dict[int, int | None]] = [{} for _ in range(num_groups)]

    def is_cached(self, group: int, index: int) -> bool:
        found = self._found[group]
        if index not in found:
            found[index] = self._pool.find(self._keys[index] + self._suffixes[group])
        return found[index] is not None

    def blocks(self, group: int, indices: range) -> list[int]:
        """The blocks of `indices`, all of which `is_cached`."""
        return [block for index in indices if (block := self._found[group][index]) is not None]


class KVCacheManager:
    """Gives requests blocks from one pool, shares prefixes, copies on write, drops what windows passed.

    The scheduler asks; nobody else allocates. All sizes are in tokens or blocks, never bytes.
    """

    def __init__(self, layout: CacheLayout, num_blocks: int, *, enable_prefix_caching: bool = True) -> None:
        self.layout = layout
        self.pool = BlockPool(num_blocks)
        self.enable_prefix_caching = enable_prefix_caching
        self.prefix_queries = 0
        """Prompt tokens looked up, over the manager's life."""
        self.prefix_hits = 0
        """Prompt tokens found."""
        self._block_size = layout.block_size
        self._holdings: dict[str, _Holding] = {}
        self._copies: list[BlockCopy] = []

    # ── admission ────────────────────────────────────────────────────────────────────────────────

    def match_prefix(self, request: Request) -> PrefixMatch:
        """The longest prefix whose blocks are in the cache, short of the last token (its logits are wanted)."""
        if not self.enable_prefix_caching or not request.is_prompt_shareable:
            return PrefixMatch(0, tuple([] for _ in self.layout.groups))
        num_blocks = (request.num_tokens - 1) // self._block_size
        groups = self.layout.groups
        keys = extend_block_keys(request, self._block_size, num_blocks)
        lookup = _PrefixLookup(self.pool, keys, len(groups))
        agreed = False
        while not agreed:  # each group can only shorten the prefix, so this ends
            agreed = True
            for index, group in enumerate(groups):
                longest = group.spec.longest_prefix(partial(lookup.is_cached, index), num_blocks)
                agreed = agreed and longest == num_blocks
                num_blocks = longest
        num_tokens = num_blocks * self._block_size
        blocks = []
        for index, group in enumerate(groups):
            first = group.spec.first_readable_token(num_tokens) // self._block_size
            blocks.append([NULL_BLOCK] * min(first, num_blocks) + lookup.blocks(index, range(first, num_blocks)))
        return PrefixMatch(num_tokens, tuple(blocks))

    def is_under_way(self, request: Request, match: PrefixMatch, running: Request) -> bool:
        """Whether `running` is about to compute so much of the request's prompt that it pays to wait for it."""
        num_cached = match.num_tokens // self._block_size
        num_computed = running.num_computed_tokens // self._block_size
        last = num_cached + -(-MIN_AWAITED_TOKENS // self._block_size) - 1
        keys, computed_keys = request.block_keys, running.block_keys
        return (
            request.is_prompt_shareable
            and num_computed <= num_cached
            and last < min(len(keys), len(computed_keys))
            and keys[last] == computed_keys[last]  # a block's key covers all before it
        )

    def can_admit(self, request: Request, match: PrefixMatch, max_chunk_tokens: int, *, num_promised: int = 0) -> bool:
        """Whether all of the request's known tokens would fit beside what is held now and `num_promised` blocks."""
        reused = {block for blocks in match.blocks for block in blocks if block != NULL_BLOCK}
        num_revived = sum(self.pool.ref_count(block) == 0 for block in reused)
        num_needed = sum(
            max(0, group.max_blocks(request.num_tokens, max_chunk_tokens) - sum(b != NULL_BLOCK for b in blocks))
            for group, blocks in zip(self.layout.groups, match.blocks, strict=True)
        )
        return num_needed + num_promised <= self.pool.num_available - num_revived

    def num_missing_blocks(self, request: Request, max_chunk_tokens: int) -> int:
        """How many more blocks a running request takes before all of its known tokens are computed."""
        tables = self._holdings[request.id].tables
        return sum(
            max(0, group.max_blocks(request.num_tokens, max_chunk_tokens) - (len(table.blocks) - table.first_held))
            for group, table in zip(self.layout.groups, tables, strict=True)
        )

    def admit(self, request: Request, match: PrefixMatch) -> None:
        """Start the request's tables with the matched prefix; sets nothing on the request."""
        assert request.id not in self._holdings
        if request.num_preemptions == 0:
            self.prefix_queries += request.num_prompt_tokens
            self.prefix_hits += match.num_tokens
        tables = []
        for group, blocks in zip(self.layout.groups, match.blocks, strict=True):
            self.pool.hold(blocks)
            first = group.spec.first_readable_token(match.num_tokens) // self._block_size
            tables.append(_BlockTable(list(blocks), min(first, len(blocks))))
        num_blocks = match.num_tokens // self._block_size
        self._holdings[request.id] = _Holding(tables, num_blocks, num_keyed=num_blocks)

    # ── a running request ────────────────────────────────────────────────────────────────────────

    def allocate(self, request: Request, num_new_tokens: int) -> bool:
        """Make room for the next `num_new_tokens` positions; False, with nothing taken, where the pool is short.

        Gives back blocks that no layer can read any more, and replaces a shared block that would
        be written by a copy (see `take_copies`).
        """
        holding = self._holdings[request.id]
        num_computed = request.num_computed_tokens
        num_blocks = -(-(num_computed + num_new_tokens) // self._block_size)
        written = num_computed // self._block_size
        if num_blocks == holding.num_blocks and written > holding.last_shared:
            return True
        num_new = num_blocks - holding.num_blocks
        num_needed = 0
        for group, table in zip(self.layout.groups, holding.tables, strict=True):
            self._drop_unreadable(table, group.spec.first_readable_token(num_computed) // self._block_size)
            is_shared = written <= holding.last_shared and self.pool.ref_count(table.blocks[written]) > 1
            num_needed += num_new + is_shared
        if num_needed > self.pool.num_available:
            return False
        if written <= holding.last_shared:
            for table in holding.tables:
                self._make_writable(holding, table, written)
        fresh = self.pool.allocate(num_new * len(holding.tables))
        for index, table in enumerate(holding.tables):
            table.blocks += fresh[index * num_new : (index + 1) * num_new]
        holding.num_blocks = num_blocks
        holding.last_shared = -1
        return True

    def take_updates(self, request: Request) -> list[BlockTableUpdate]:
        """What of the request's block tables the worker has not been told: one entry a group, or none at all."""
        holding = self._holdings[request.id]
        start = holding.num_told
        if start == holding.num_blocks:
            return []
        holding.num_told = holding.num_blocks
        return [BlockTableUpdate(start, table.blocks[start:]) for table in holding.tables]

    def take_copies(self) -> list[BlockCopy]:
        """The block copies that the next step must make before it writes."""
        copies, self._copies = self._copies, []
        return copies

    def commit(self, request: Request) -> None:
        """Offer the request's full, computed blocks to the prefix cache."""
        if not self.enable_prefix_caching:
            return
        holding = self._holdings[request.id]
        num_full = request.num_computed_tokens // self._block_size
        if num_full <= holding.num_keyed:
            return
        keys = extend_block_keys(request, self._block_size, num_full)
        for group, table in enumerate(holding.tables):
            first = max(holding.num_keyed, table.first_held)
            suffix = group_suffix(group)
            self.pool.set_keys(table.blocks[first:num_full], [key + suffix for key in keys[first:num_full]])
        holding.num_keyed = num_full

    def fork(self, leader: Request, follower: Request, num_tokens: int) -> None:
        """Let `follower` read the leader's first `num_tokens` positions, in the same blocks."""
        assert follower.id not in self._holdings
        num_blocks = -(-num_tokens // self._block_size)
        tables = []
        holding = self._holdings[leader.id]
        for table in holding.tables:
            blocks = table.blocks[:num_blocks]
            self.pool.hold(blocks)
            tables.append(_BlockTable(blocks, min(table.first_held, num_blocks)))
        num_full = num_tokens // self._block_size
        holding.last_shared = num_blocks - 1
        self._holdings[follower.id] = _Holding(tables, num_blocks, num_keyed=num_full, last_shared=num_blocks - 1)

    def free(self, request: Request) -> None:
        """Give back everything the request holds; the end of a prefix is evicted before its start."""
        holding = self._holdings.pop(request.id, None)
        if holding is not None:
            for table in holding.tables:
                self.pool.release(reversed(table.blocks))

    # ── what is held ─────────────────────────────────────────────────────────────────────────────

    def block_tables(self, request: Request) -> list[list[int]]:
        """A copy of the request's block tables, one a group; for tests and views."""
        return [list(table.blocks) for table in self._holdings[request.id].tables]

    def _drop_unreadable(self, table: _BlockTable, first_readable: int) -> None:
        first_readable = min(first_readable, len(table.blocks))
        if first_readable > table.first_held:
            self.pool.release(table.blocks[table.first_held : first_readable])
            table.blocks[table.first_held : first_readable] = [NULL_BLOCK] * (first_readable - table.first_held)
            table.first_held = first_readable

    def _make_writable(self, holding: _Holding, table: _BlockTable, index: int) -> None:
        """Replace a block that others read too by a copy of its own."""
        holding.num_keyed = min(holding.num_keyed, index)
        shared = table.blocks[index]
        if self.pool.make_writable(shared):
            return
        (own,) = self.pool.allocate(1)
        self._copies.append(BlockCopy(shared, own))
        self.pool.release((shared,))
        table.blocks[index] = own
        holding.num_told = min(holding.num_told, index)
