"""What a layer keeps of the past: bytes per block, blocks needed, how much prefix can be reused.

A layer that attends declares a `CacheSpec`; the KV cache manager knows nothing else about it.
Sizes are in tokens unless the name says otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

from octavo.core.strenum import StrEnum


class KVDtype(StrEnum):
    """How keys and values are stored. `FP8_E4M3` and `INT8` carry a scale per (token, head)."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8_E4M3 = "fp8"
    INT8 = "int8"

    @property
    def element_bytes(self) -> int:
        return {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}[self.value]

    @property
    def scale_bytes(self) -> int:
        """Bytes of scale stored beside one head's vector of one token."""
        return 4 if self in (KVDtype.FP8_E4M3, KVDtype.INT8) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FullAttentionSpec:
    """Every past token stays readable: ⌈n / block_size⌉ blocks for n tokens."""

    block_size: int
    num_kv_heads: int
    key_head_dim: int
    value_head_dim: int
    dtype: KVDtype

    @property
    def block_bytes(self) -> int:
        """Bytes of one layer's block: keys and values of `block_size` tokens, scales included."""
        per_head = (self.key_head_dim + self.value_head_dim) * self.dtype.element_bytes + 2 * self.dtype.scale_bytes
        return self.block_size * self.num_kv_heads * per_head

    def first_readable_token(self, num_computed: int) -> int:
        """The oldest position that a query at position `num_computed` or later can read."""
        return 0

    def longest_prefix(self, is_cached: Callable[[int], bool], num_blocks: int) -> int:
        """How many of the first `num_blocks` blocks can be reused, given which are cached. O(result)."""
        for index in range(num_blocks):
            if not is_cached(index):
                return index
        return num_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindowSpec(FullAttentionSpec):
    """A query reads itself and the `window - 1` tokens before it; older blocks are given back."""

    window: int

    def first_readable_token(self, num_computed: int) -> int:
        return max(0, num_computed - self.window + 1)

    def longest_prefix(self, is_cached: Callable[[int], bool], num_blocks: int) -> int:
        """The longest prefix whose *last* window is cached; blocks before it need not be. O(num_blocks).

        A prefix of n blocks lets the next query, at position n·block_size, read back to
        `first_readable_token(n·block_size)`: those blocks must be there.
        """
        run_start = num_blocks  # blocks [run_start, end) are known to be cached
        end = num_blocks
        while end > 0:
            first = self.first_readable_token(end * self.block_size) // self.block_size
            while run_start > first and is_cached(run_start - 1):
                run_start -= 1
            if run_start <= first:
                return end
            end = run_start = run_start - 1  # block run_start - 1 is missing: no prefix may end past it here
        return 0


CacheSpec = FullAttentionSpec | SlidingWindowSpec
