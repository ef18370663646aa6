"""Tile sizes, warps and pipeline stages of each kernel, by head size, type and device.

Chosen so that shared memory holds the tiles and no register is spilled where scores are only scaled, causal or not; which of
those that fit is fastest is for `make gpu` to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Tiles:
    """block_m folded rows × block_n keys, by so many warps, with loads so many stages ahead."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


class Family(Enum):
    """What a kernel's tiles depend on beside head size and type."""

    HOPPER = "hopper"
    """227 KB of shared memory a block, products of 64 rows by four warps together (wgmma)."""
    AMPERE = "ampere"
    """163 KB, products of 16 rows by a warp (A100)."""
    SMALL = "small"
    """99 KB, likewise (RTX 30 and 40, A10, L4, L40)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimits:
    """What launches depend on."""

    capability: tuple[int, int]
    shared_bytes: int
    """That one block may have."""

    @property
    def family(self) -> Family:
        if self.shared_bytes < 163 << 10:
            return Family.SMALL
        return Family.HOPPER if self.capability >= (9, 0) else Family.AMPERE

    @property
    def converts_fp8(self) -> bool:
        """Are there instructions from and to fp8 (e4m3)?"""
        return self.capability >= (8, 9)


SPLIT_ROWS: Final = 16
"""Requests of at most so many rows have their keys split."""
SPLIT_KEYS: Final = 512
"""Keys of a split: at fixed positions, so that a row's sums do not depend on what else is in the plan."""
MAX_BLOCK_M: Final = 128
MAX_BLOCK_N: Final = 128

BySize = Mapping[int, Tiles]
"""The largest head size that the tiles are for, rising, to the tiles."""

_FORWARD_FP32: Final[BySize] = MappingProxyType(
    {64: Tiles(32, 32, 8, 2), 128: Tiles(32, 16, 8, 2), 256: Tiles(16, 32, 8, 1), 512: Tiles(16, 16, 8, 1)}
)
_FORWARD: Final[Mapping[Family, BySize]] = MappingProxyType(
    {
        Family.HOPPER: {64: Tiles(128, 128, 8, 2), 128: Tiles(128, 64, 8, 3), 256: Tiles(128, 32, 8, 3), 512: Tiles(32, 32, 8, 2)},
        Family.AMPERE: {64: Tiles(128, 64, 8, 3), 128: Tiles(128, 64, 8, 3), 256: Tiles(64, 64, 8, 2), 512: Tiles(32, 32, 8, 2)},
        Family.SMALL: {64: Tiles(128, 64, 8, 3), 128: Tiles(128, 64, 8, 2), 256: Tiles(64, 32, 8, 2), 512: Tiles(32, 32, 8, 2)},
    }
)  # fmt: skip
_SPLIT_FP32: Final[BySize] = MappingProxyType(
    {64: Tiles(16, 32, 4, 2), 128: Tiles(16, 16, 4, 2), 256: Tiles(16, 32, 8, 1), 512: Tiles(16, 16, 8, 1)}
)
_SPLIT: Final[BySize] = MappingProxyType(
    {64: Tiles(16, 128, 4, 3), 128: Tiles(16, 64, 4, 3), 256: Tiles(16, 32, 4, 3), 512: Tiles(16, 32, 8, 2)}
)
_KEY_GRADIENT_FP32: Final[BySize] = MappingProxyType(
    {64: Tiles(32, 32, 8, 1), 128: Tiles(16, 16, 8, 1), 256: Tiles(16, 16, 8, 1), 512: Tiles(16, 16, 16, 1)}
)
_KEY_GRADIENT: Final[Mapping[Family, BySize]] = MappingProxyType(
    {
        Family.HOPPER: {64: Tiles(64, 128, 8, 2), 128: Tiles(32, 128, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.AMPERE: {64: Tiles(64, 64, 8, 3), 128: Tiles(32, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.SMALL: {64: Tiles(64, 64, 8, 3), 128: Tiles(32, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
    }
)  # fmt: skip
_QUERY_GRADIENT_FP32: Final[BySize] = MappingProxyType(
    {64: Tiles(32, 32, 8, 1), 128: Tiles(32, 16, 8, 1), 256: Tiles(16, 16, 8, 1), 512: Tiles(16, 16, 16, 1)}
)
_QUERY_GRADIENT: Final[Mapping[Family, BySize]] = MappingProxyType(
    {
        Family.HOPPER: {64: Tiles(128, 64, 8, 2), 128: Tiles(128, 64, 8, 2), 256: Tiles(64, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.AMPERE: {64: Tiles(128, 64, 8, 2), 128: Tiles(64, 64, 8, 2), 256: Tiles(64, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.SMALL: {64: Tiles(128, 64, 8, 2), 128: Tiles(64, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
    }
)  # fmt: skip


def padded(size: int) -> int:
    """The least power of two that holds a head of `size`; matrix instructions take no fewer than 16."""
    return max(16, 1 << (size - 1).bit_length())


def forward_tiles(key_size: int, value_size: int, element_bytes: int, limits: DeviceLimits) -> Tiles:
    """`element_bytes` of the type that products are computed in."""
    return _tiles(_FORWARD_FP32 if element_bytes == 4 else _FORWARD[limits.family], key_size, value_size)


def split_tiles(key_size: int, value_size: int, element_bytes: int, group: int) -> Tiles:
    """As many rows as a group has heads, where that is no more than 64: then one row reads its keys once."""
    tiles = _tiles(_SPLIT_FP32 if element_bytes == 4 else _SPLIT, key_size, value_size)
    block_m = min(64, padded(group)) if element_bytes == 2 else tiles.block_m
    return Tiles(block_m, tiles.block_n, tiles.num_warps, tiles.num_stages)


def merge_warps(value_size: int) -> int:
    return 1 if value_size <= 128 else 4


def delta_tiles(value_size: int) -> Tiles:
    return Tiles(4096 // padded(value_size), 1, 4, 1)


def key_gradient_tiles(key_size: int, value_size: int, element_bytes: int, limits: DeviceLimits) -> Tiles:
    return _tiles(_KEY_GRADIENT_FP32 if element_bytes == 4 else _KEY_GRADIENT[limits.family], key_size, value_size)


def query_gradient_tiles(key_size: int, value_size: int, element_bytes: int, limits: DeviceLimits) -> Tiles:
    return _tiles(_QUERY_GRADIENT_FP32 if element_bytes == 4 else _QUERY_GRADIENT[limits.family], key_size, value_size)


def _tiles(table: BySize, key_size: int, value_size: int) -> Tiles:
    largest = max(key_size, value_size)
    return next(tiles for size, tiles in table.items() if largest <= size)
