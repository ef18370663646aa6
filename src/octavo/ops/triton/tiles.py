"""What attention's kernels do with a tile: whose rows it holds, which keys they see, and how keys and values come in.

Legend: M rows and N keys of a tile, D key size, E value size, G query heads of a KV head.

The rows of a request are *folded*: row i of head g of the group is folded row f = i·G + g, so that a tile reads keys and values
once for all heads that share them, and a sum over folded rows is one over the group, too. Tiles lie at multiples of their
size: of M folded rows of the request, and of N keys of it. So what a row meets depends on its request alone.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
MINUS_INFINITY = tl.constexpr(float("-inf"))
INFINITY = tl.constexpr(float("inf"))


class Heads(NamedTuple):
    """A tensor (tokens, heads, size) whose last stride is 1."""

    start: Any
    token_stride: Any
    head_stride: Any


class Cache(NamedTuple):
    """A tensor (blocks, slots, heads, size) whose last stride is 1."""

    start: Any
    block_stride: Any
    slot_stride: Any
    head_stride: Any


class Plan(NamedTuple):
    """The tensors of an `AttentionPlan`; `key_starts` may be None."""

    query_starts: Any
    seq_lens: Any
    block_tables: Any
    table_stride: Any
    key_starts: Any


class Window(NamedTuple):
    """Keys seen to the left and right of a row's position; None: all."""

    left: Any
    right: Any


class Request(NamedTuple):
    """One request, as scalars."""

    index: Any
    first_row: Any
    num_rows: Any
    num_keys: Any
    first_token: Any
    table: Any


class Rows(NamedTuple):
    """The folded rows of a tile: row of the request, its position among the keys, query head, is there such a row? (M,) each."""

    index: Any
    position: Any
    head: Any
    is_real: Any


class RowTile(NamedTuple):
    """The same as an address: its first row and head, and each folded row's distance from it, which is less than M."""

    row: Any
    head: Any
    row_distance: Any
    head_distance: Any


class KeyTiles(NamedTuple):
    """Where one KV head of a request's cache lies. `slots` is that of token 0; with a table, of block 0."""

    slots: Any
    block_stride: Any
    slot_stride: Any


class KeyRange(NamedTuple):
    """Keys first … stop − 1 are seen by some row of a tile, those from full_first to full_stop − 1, in whole tiles, by all."""

    first: Any
    stop: Any
    full_first: Any
    full_stop: Any


@triton.jit
def find_owner(starts, num_requests, tile, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    """The request whose tile this is, and the number of the tile in it.

    Request r has the tiles starts[r]·SCALE // BLOCK + r and on, up to that of r + 1: at least as many as it needs, so a grid of
    starts[R]·SCALE // BLOCK + R holds all without a look at their sizes. O(log R).
    """
    low = 0
    high = num_requests - 1
    while low < high:
        middle = (low + high + 1) // 2
        if tl.load(starts + middle).to(tl.int64) * SCALE // BLOCK + middle <= tile:
            low = middle
        else:
            high = middle - 1
    first = tl.load(starts + low).to(tl.int64) * SCALE // BLOCK + low
    return low, (tile - first).to(tl.int32)


@triton.jit
def load_request(plan, index):
    first_row = tl.load(plan.query_starts + index)
    first_token = tl.zeros((), tl.int32)
    if plan.key_starts is not None:
        first_token = tl.load(plan.key_starts + index)
    return Request(
        index=index,
        first_row=first_row,
        num_rows=tl.load(plan.query_starts + index + 1) - first_row,
        num_keys=tl.load(plan.seq_lens + index),
        first_token=first_token,
        table=plan.block_tables + index.to(tl.int64) * plan.table_stride,
    )


@triton.jit
def row_tile(request, kv_head, tile, GROUP: tl.constexpr, BLOCK_M: tl.constexpr):
    """Where G divides M, the distances are those of every tile, and so computed once in a loop over tiles."""
    rest = 0
    if BLOCK_M % GROUP != 0:
        rest = tile * BLOCK_M % GROUP
    folded_M = rest + tl.arange(0, BLOCK_M)
    return RowTile(
        row=tile * BLOCK_M // GROUP,
        head=kv_head * GROUP,
        row_distance=folded_M // GROUP,
        head_distance=folded_M % GROUP,
    )


@triton.jit
def fold_rows(request, at):
    index_M = at.row + at.row_distance
    return Rows(
        index=index_M,
        position=index_M + (request.num_keys - request.num_rows),
        head=at.head + at.head_distance,
        is_real=index_M < request.num_rows,
    )


@triton.jit
def visible_keys(
    request, window, tile, lower, upper, GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """Of keys lower … upper − 1, those that the rows of a tile see; lower is a multiple of BLOCK_N."""
    shift = request.num_keys - request.num_rows
    first_position = tile * BLOCK_M // GROUP + shift
    last_position = tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // GROUP, request.num_rows - 1) + shift
    first = lower
    full_first = lower
    stop = tl.minimum(upper, request.num_keys)
    full_stop = stop
    if window.left is not None:
        first = tl.maximum(first, first_position - window.left)
        full_first = tl.maximum(full_first, tl.cdiv(tl.maximum(last_position - window.left, 0), BLOCK_N) * BLOCK_N)
    if window.right is not None:
        stop = tl.minimum(stop, last_position + window.right + 1)
        full_stop = tl.minimum(full_stop, tl.maximum(first_position + window.right + 1, 0))
    return KeyRange(first=first, stop=stop, full_first=full_first, full_stop=full_stop // BLOCK_N * BLOCK_N)


@triton.jit
def is_visible(rows, keys, request, window):
    """Does the row see the key? Of rows and keys along different axes."""
    is_seen = keys < request.num_keys
    if window.left is not None:
        is_seen = is_seen & (keys >= rows.position - window.left)
    if window.right is not None:
        is_seen = is_seen & (keys <= rows.position + window.right)
    return is_seen


@triton.jit
def as_column(rows):
    """(M, 1) each."""
    return Rows(
        index=rows.index[:, None],
        position=rows.position[:, None],
        head=rows.head[:, None],
        is_real=rows.is_real[:, None],
    )


@triton.jit
def as_row(rows):
    """(1, M) each."""
    return Rows(
        index=rows.index[None, :],
        position=rows.position[None, :],
        head=rows.head[None, :],
        is_real=rows.is_real[None, :],
    )


@triton.jit
def load_rows(x, at, request, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """(M, BLOCK) of a (tokens, heads, SIZE) tensor; 0 where there is none."""
    return tl.load(_row_pointers(x, at, request, BLOCK), mask=_row_mask(at, request, SIZE, BLOCK), other=0.0)


@triton.jit
def store_rows(x, at, request, values, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    pointers = _row_pointers(x, at, request, BLOCK)
    tl.store(pointers, values.to(x.start.dtype.element_ty), mask=_row_mask(at, request, SIZE, BLOCK))


@triton.jit
def _row_pointers(x, at, request, BLOCK: tl.constexpr):
    first = x.start + (request.first_row + at.row).to(tl.int64) * x.token_stride + at.head.to(tl.int64) * x.head_stride
    distance_M = at.row_distance * x.token_stride + at.head_distance * x.head_stride
    return first + (distance_M[:, None] + tl.arange(0, BLOCK)[None, :])


@triton.jit
def _row_mask(at, request, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    is_real = (at.row + at.row_distance < request.num_rows)[:, None]
    if SIZE == BLOCK:
        return is_real
    else:
        return is_real & (tl.arange(0, BLOCK) < SIZE)[None, :]


@triton.jit
def load_statistic(x, rows, request, other):
    """(M,) of a (tokens, heads) tensor; `other` where there is none."""
    return tl.load(_statistic_pointers(x, rows, request), mask=rows.is_real, other=other)


@triton.jit
def store_statistic(x, rows, request, values):
    tl.store(_statistic_pointers(x, rows, request), values, mask=rows.is_real)


@triton.jit
def _statistic_pointers(x, rows, request):
    token = (request.first_row + rows.index).to(tl.int64)
    return x.start + token * x.token_stride + rows.head.to(tl.int64) * x.head_stride


@triton.jit
def key_tiles(cache, request, kv_head, BLOCK_SIZE: tl.constexpr):
    """BLOCK_SIZE 0: the request's keys lie in one block."""
    slots = cache.start + kv_head.to(tl.int64) * cache.head_stride
    if BLOCK_SIZE == 0:
        slots += tl.load(request.table).to(tl.int64) * cache.block_stride
        slots += request.first_token.to(tl.int64) * cache.slot_stride
    return KeyTiles(slots=slots, block_stride=cache.block_stride, slot_stride=cache.slot_stride)


@triton.jit
def blocks_of(request, start, seen, BLOCK_N: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    """Block ids of the keys `seen` from `start` on, (N,); 0, unread, where BLOCK_SIZE is.

    A loop over tiles asks for those of the next one, since a load whose address has to be loaded first is not pipelined.
    """
    if BLOCK_SIZE == 0:
        return 0
    else:
        keys_N = start + tl.arange(0, BLOCK_N)
        is_seen_N = (keys_N >= seen.first) & (keys_N < seen.stop)
        return tl.load(request.table + (keys_N + request.first_token) // BLOCK_SIZE, mask=is_seen_N, other=0)


@triton.jit
def decoded(x, DTYPE: tl.constexpr):
    """Of a cache's type as DTYPE. Bytes are fp8 (e4m3), for devices that cannot convert it.

    With its exponent in the place of fp16's, whose bias is 8 more, such a number is 2⁸ times too small; subnormals, too.
    """
    if x.dtype == tl.uint8:
        byte = x.to(tl.uint16)
        magnitude = byte & 0x7F
        half = (((byte & 0x80) << 8) | (magnitude << 7)).to(tl.float16, bitcast=True) * 256
        return tl.where(magnitude == 0x7F, float("nan"), half).to(DTYPE)
    else:
        return x.to(DTYPE)


@triton.jit
def load_keys(
    tiles, request, blocks, start, seen, SIZE: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, IS_MASKED: tl.constexpr,
):  # fmt: skip
    """(N, BLOCK) keys or values from `start` on; if masked, 0 for those not `seen`, which are not read."""
    keys_N = start + tl.arange(0, BLOCK_N)
    is_seen_N = (keys_N >= seen.first) & (keys_N < seen.stop)
    size = tl.arange(0, BLOCK)
    pointers = _key_pointers(tiles, request, blocks, start, BLOCK, BLOCK_N, BLOCK_SIZE)
    if IS_MASKED:
        if SIZE == BLOCK:
            return tl.load(pointers, mask=is_seen_N[:, None], other=0.0)
        else:
            return tl.load(pointers, mask=is_seen_N[:, None] & (size < SIZE)[None, :], other=0.0)
    elif SIZE == BLOCK:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=(size < SIZE)[None, :], other=0.0)


@triton.jit
def store_keys(
    tiles, request, blocks, start, values, SIZE: tl.constexpr, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """(N, BLOCK) values to the slots of the request's keys from `start` on."""
    is_key_N = start + tl.arange(0, BLOCK_N) < request.num_keys
    mask = is_key_N[:, None] & (tl.arange(0, BLOCK) < SIZE)[None, :]
    pointers = _key_pointers(tiles, request, blocks, start, BLOCK, BLOCK_N, BLOCK_SIZE)
    tl.store(pointers, values.to(tiles.slots.dtype.element_ty), mask=mask)


@triton.jit
def _key_pointers(tiles, request, blocks, start, BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    key_N = tl.arange(0, BLOCK_N)
    size = tl.arange(0, BLOCK)[None, :]
    if BLOCK_SIZE == 0:
        first = tiles.slots + tl.cast(start, tl.int64) * tiles.slot_stride
        return first + ((key_N * tiles.slot_stride)[:, None] + size)
    else:
        slot_N = ((start + key_N + request.first_token) % BLOCK_SIZE).to(tl.int64)
        slots_N = tiles.slots + blocks.to(tl.int64) * tiles.block_stride + slot_N * tiles.slot_stride
        return slots_N[:, None] + size
