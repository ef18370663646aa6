"""Tile sizes, warps and pipeline stages of each kernel, by head size, type and device.

Chosen so that shared memory holds the tiles and next to no register is spilled in bf16 and fp16 where scores are only scaled,
causal or not (`bench/gpu_resources.py` lists them); which of those that fit is fastest is for `bench/gpu_tuning.py` to say, on a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What else tiles depend on."""

    element_bytes: int
    """Of the type that products are computed in: 2 or 4."""
    is_heavy: bool
    """Does a score take more registers or shared memory than usual, for a bias, dropout, or bytes to convert?"""


SPLIT_ROWS: Final = 16
"""Requests of at most so many rows have their keys split."""
SPLIT_KEYS: Final = 512
"""Keys of a split: at fixed positions, so that a row's sums do not depend on what else is in the plan."""
LARGE_FP32_HEAD: Final = 256
LARGE_FP32_SHARED_BYTES: Final = 132_096
"""What a block of the backward pass takes for a larger head in fp32."""
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
        Family.AMPERE: {64: Tiles(128, 64, 8, 3), 128: Tiles(128, 64, 8, 3), 256: Tiles(64, 32, 8, 3), 512: Tiles(32, 32, 8, 2)},
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
        Family.AMPERE: {64: Tiles(32, 128, 8, 2), 128: Tiles(32, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.SMALL: {64: Tiles(32, 128, 8, 2), 128: Tiles(32, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
    }
)  # fmt: skip
_QUERY_GRADIENT_FP32: Final[BySize] = MappingProxyType(
    {64: Tiles(32, 32, 8, 1), 128: Tiles(32, 16, 8, 1), 256: Tiles(16, 16, 8, 1), 512: Tiles(16, 16, 16, 1)}
)
_QUERY_GRADIENT: Final[Mapping[Family, BySize]] = MappingProxyType(
    {
        Family.HOPPER: {64: Tiles(128, 64, 8, 2), 128: Tiles(128, 64, 8, 2), 256: Tiles(64, 32, 8, 3), 512: Tiles(16, 16, 8, 1)},
        Family.AMPERE: {64: Tiles(128, 64, 8, 2), 128: Tiles(64, 64, 8, 2), 256: Tiles(64, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
        Family.SMALL: {64: Tiles(128, 64, 8, 2), 128: Tiles(64, 64, 8, 2), 256: Tiles(32, 32, 8, 2), 512: Tiles(16, 16, 8, 1)},
    }
)  # fmt: skip


def padded(size: int) -> int:
    """The least power of two that holds a head of `size`; matrix instructions take no fewer than 16."""
    return max(16, 1 << (size - 1).bit_length())


def forward_tiles(key_size: int, value_size: int, workload: Workload, limits: DeviceLimits) -> Tiles:
    return _tiles(_FORWARD_FP32, _FORWARD[limits.family], key_size, value_size, workload)


def split_tiles(key_size: int, value_size: int, workload: Workload, group: int) -> Tiles:
    """As many rows as a group has heads, up to 64, so that a row of a request meets its keys once."""
    tiles = _tiles(_SPLIT_FP32, _SPLIT, key_size, value_size, workload)
    return tiles if workload.element_bytes == 4 else replace(tiles, block_m=min(64, padded(group)))


def merge_warps(value_size: int) -> int:
    return 1 if value_size <= 128 else 4


def delta_tiles(value_size: int) -> Tiles:
    return Tiles(4096 // padded(value_size), 1, 4, 1)


def key_gradient_tiles(key_size: int, value_size: int, workload: Workload, limits: DeviceLimits) -> Tiles:
    return _tiles(_KEY_GRADIENT_FP32, _KEY_GRADIENT[limits.family], key_size, value_size, workload)


def query_gradient_tiles(key_size: int, value_size: int, workload: Workload, limits: DeviceLimits) -> Tiles:
    return _tiles(_QUERY_GRADIENT_FP32, _QUERY_GRADIENT[limits.family], key_size, value_size, workload)


def _tiles(fp32: BySize, fp16: BySize, key_size: int, value_size: int, workload: Workload) -> Tiles:
    largest, table = max(key_size, value_size), fp32 if workload.element_bytes == 4 else fp16
    tiles = next(tiles for size, tiles in table.items() if largest <= size)
    return replace(tiles, block_m=max(16, tiles.block_m // 2)) if workload.is_heavy else tiles
