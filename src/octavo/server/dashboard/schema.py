"""A snapshot: what `/dashboard/snapshot` answers, and what each event of `/dashboard/events` holds."""

from typing import Annotated

import msgspec

from octavo.core.messages import BlockMap, BlockState
from octavo.engine.liveness import EngineState
from octavo.server.recent_times import Percentiles

_TO_LETTERS = bytes.maketrans(bytes(BlockState), b"fcps")

Cells = Annotated[
    str,
    msgspec.Meta(
        pattern="^[fcps]*$",
        description=(
            "One letter for each cell of the pool, in the order of block ids: f free, c cached, p private, s shared. A "
            "cell of several blocks has the state of most of them, the busier where two are as many."
        ),
    ),
]


class Steps(msgspec.Struct, kw_only=True):
    """Steps that computed something, oldest first: the n-th entry of each list is of the same step."""

    step: list[int]
    decode_tokens: list[int]
    prefill_tokens: list[int]
    requests: list[int]
    """Sequences that the step computed tokens of."""
    step_ms: list[float]


class Throughput(msgspec.Struct, kw_only=True, frozen=True):
    """Tokens a second, over the last two seconds."""

    generated: float = 0.0
    prefilled: float = 0.0
    """Prompt tokens that were computed; those found in the prefix cache are not among them."""


class PrefixCache(msgspec.Struct, kw_only=True):
    """Prompt tokens since the start, at the admission of each request."""

    queried_tokens: int
    hit_tokens: int
    hit_rate: float | None
    """hit / queried; null before the first request."""


class Blocks(msgspec.Struct, kw_only=True):
    """The KV blocks, as they were after step `step`."""

    step: int
    num_blocks: int
    block_size: int
    """Tokens a block."""
    free: int
    cached: int
    private: int
    shared: int
    blocks_per_cell: int
    """Above 1 for a large pool; the last cell may have fewer."""
    cells: Cells


class Limits(msgspec.Struct, kw_only=True, frozen=True):
    """What the figures can reach."""

    max_num_seqs: int
    max_num_batched_tokens: int


class Snapshot(msgspec.Struct, kw_only=True):
    """What the engine did up to step `step`."""

    boot_id: str
    """Another after each start of the server: nothing that was kept from before goes on."""
    id: int
    """Counts the snapshots of this server from 1."""
    step: int
    time_s: float
    """When it was made, in seconds since 1970."""
    uptime_s: float
    """Since the model was loaded."""
    model: str
    engine: EngineState
    num_running: int
    num_waiting: int
    num_preemptions: int
    """Since the start."""
    throughput: Throughput
    ttft: Percentiles
    itl: Percentiles
    prefix_cache: PrefixCache
    blocks: Blocks
    steps: Steps
    """The newest 64."""
    limits: Limits


def describe_blocks(block_map: BlockMap, block_size: int) -> Blocks:
    """The engine's map in words that JSON has."""
    return Blocks(
        step=block_map.step,
        num_blocks=block_map.num_free + block_map.num_cached + block_map.num_private + block_map.num_shared,
        block_size=block_size,
        free=block_map.num_free,
        cached=block_map.num_cached,
        private=block_map.num_private,
        shared=block_map.num_shared,
        blocks_per_cell=block_map.blocks_per_cell,
        cells=block_map.cells.translate(_TO_LETTERS).decode(),
    )
