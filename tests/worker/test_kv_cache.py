"""The memory behind the blocks, as the layers see it."""

import torch

from octavo.cache import plan_layout
from octavo.core.cache_spec import FullAttentionSpec, KVDtype
from octavo.core.messages import BlockCopy
from octavo.worker.kv_cache import KVCache

SPEC = FullAttentionSpec(block_size=16, num_kv_heads=3, key_head_dim=64, value_head_dim=32, dtype=KVDtype.BF16)


def cache() -> KVCache:
    return KVCache(plan_layout([SPEC, SPEC]), 5, torch.device("cpu"))


def test_slots_of_a_head_are_neighbours_in_memory():
    for layer in cache().layers.values():
        for view, size in ((layer.keys, 64), (layer.values, 32)):
            assert view.shape == (6, 16, 3, size)
            assert view.stride() == (16 * 3 * size, size, 16 * size, 1)


def test_blocks_are_copied_in_every_layer():
    kv = cache()
    for number, layer in kv.layers.items():
        layer.keys[2] = number + 1
        layer.values[2] = -number - 1
    kv.copy_blocks([BlockCopy(2, 4)])
    for number, layer in kv.layers.items():
        assert (layer.keys[4] == number + 1).all()
        assert (layer.values[4] == -number - 1).all()
        assert not layer.keys[[0, 1, 3, 5]].any()
