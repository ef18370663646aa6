"""The memory behind the blocks: two tensors, keys and values, a slot of the cache layout."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.cache import CacheLayout
from octavo.core.cache_spec import CacheSpec, KVDtype
from octavo.core.messages import BlockCopy
from octavo.layers.attention import LayerCache

_TORCH_DTYPE = {KVDtype.FP32: torch.float32, KVDtype.BF16: torch.bfloat16, KVDtype.FP16: torch.float16}


class KVCache:
    """Owns the KV tensors of `num_blocks` blocks and the null block.

    On a CPU the memory is taken from the system page by page, as blocks are first written.
    """

    def __init__(self, layout: CacheLayout, num_blocks: int, device: torch.device) -> None:
        self._slots: list[tuple[Tensor, Tensor]] = []
        self.layers: dict[int, LayerCache] = {}
        """Layer number → its view of the tensors."""
        for slot in range(len(layout.slot_bytes)):
            members = [group for group in layout.groups if slot < len(group.layers)]
            keys = _blocks(num_blocks + 1, max(_key_bytes(group.spec) for group in members), device)
            values = _blocks(num_blocks + 1, max(_value_bytes(group.spec) for group in members), device)
            self._slots.append((keys, values))
            for index, group in enumerate(layout.groups):
                if slot < len(group.layers):
                    spec = group.spec
                    self.layers[group.layers[slot]] = LayerCache(
                        index, _view(keys, spec, spec.key_head_dim), _view(values, spec, spec.value_head_dim)
                    )

    def copy_blocks(self, copies: Sequence[BlockCopy]) -> None:
        """Copy whole blocks, one after the other in the order given."""
        for copy in copies:
            for keys, values in self._slots:
                keys[copy.target] = keys[copy.source]
                values[copy.target] = values[copy.source]


def _key_bytes(spec: CacheSpec) -> int:
    return spec.block_size * spec.num_kv_heads * spec.key_head_dim * spec.dtype.element_bytes


def _value_bytes(spec: CacheSpec) -> int:
    return spec.block_size * spec.num_kv_heads * spec.value_head_dim * spec.dtype.element_bytes


def _blocks(num_blocks: int, block_bytes: int, device: torch.device) -> Tensor:
    """(num_blocks, block_bytes) zero bytes: what is never written must not read as NaN."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros((num_blocks, block_bytes), np.uint8))  # calloc: untouched pages cost nothing
    return torch.zeros((num_blocks, block_bytes), dtype=torch.uint8, device=device)


def _view(blocks: Tensor, spec: CacheSpec, head_dim: int) -> Tensor:
    """(num_blocks, block_size, K, head_dim) over the first bytes of each block, where a head's slots are neighbours."""
    num_bytes = spec.block_size * spec.num_kv_heads * head_dim * spec.dtype.element_bytes
    typed = blocks[:, :num_bytes].view(_TORCH_DTYPE[spec.dtype])
    return typed.unflatten(1, (spec.num_kv_heads, spec.block_size, head_dim)).transpose(1, 2)
