"""A snapshot: what `/dashboard/snapshot` answers, and what each event of `/dashboard/events` holds."""

import re
from typing import Annotated

import msgspec

from octavo.core.messages import BlockMap, BlockState
from octavo.server.recent_times import Percentiles

_TO_LETTERS = bytes.maketrans(bytes(BlockState), b"fcps")
_RUN = re.compile(rb"(.)\1*")

Cells = Annotated[
    str,
    msgspec.Meta(
        pattern="^([fcps][0-9]+)*$",
        description=(
            "The pool's cells in the order of block ids, in runs: f3012c45 is 3,012 free cells, then 45 cached ones. A "
            "cell has the state of most of its blocks (f free, c cached, p private, s shared), the busier where two are "
            "as many."
        ),
    ),
]


class Steps(msgspec.Struct, kw_only=True):
    """Steps that computed something, oldest first: the n-th entry of each list is of the same step."""

    step: list[int] = []
    decode_tokens: list[int] = []
    prefill_tokens: list[int] = []
    requests: list[int] = []
    """Sequences that the step computed tokens of."""
    step_ms: list[float] = []


class Throughput(msgspec.Struct, kw_only=True, frozen=True):
    """Tokens a second, over the last two seconds."""

    generated: float = 0.0
    prefilled: float = 0.0
    """Prompt tokens that were computed; those found in the prefix cache are not among them."""


class PrefixCache(msgspec.Struct, kw_only=True):
    """Prompt tokens since the start, at the admission of each request."""

    queried_tokens: int = 0
    hit_tokens: int = 0
    hit_rate: float | None = None
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
    model: str
    engine: str
    """running, stalled, stopping or dead."""
    num_running: int
    num_waiting: int
    num_preemptions: int
    """Since the start."""
    throughput: Throughput
    ttft: Percentiles
    itl: Percentiles
    prefix_cache: PrefixCache
    blocks: Blocks | None
    """null before the first step."""
    steps: Steps
    """Since the snapshot before; of very many the newest."""
    limits: Limits


def describe_blocks(block_map: BlockMap, step: int, block_size: int) -> Blocks:
    """The engine's map in words that JSON has."""
    return Blocks(
        step=step,
        num_blocks=block_map.num_free + block_map.num_cached + block_map.num_private + block_map.num_shared,
        block_size=block_size,
        free=block_map.num_free,
        cached=block_map.num_cached,
        private=block_map.num_private,
        shared=block_map.num_shared,
        blocks_per_cell=block_map.blocks_per_cell,
        cells=_runs(block_map.cells),
    )


def _runs(cells: bytes) -> str:
    """«f3012c45» of one byte a cell."""
    letters = cells.translate(_TO_LETTERS)
    return _RUN.sub(lambda run: b"%b%d" % (run[1], len(run[0])), letters).decode()
