"""Memory for packed weights: neighbours share it, and it goes with the last of them."""

import gc

import pytest
import torch

pytest.importorskip("octavo._native")

from octavo.ops.cpu import weight_memory as memory
from octavo.ops.cpu.weight_memory import CHUNK_BYTES, weight_memory


def test_neighbours_lie_side_by_side_and_apart() -> None:
    parts = [weight_memory(size) for size in (1000, 1, 4096, 129)]
    for index, part in enumerate(parts):
        assert part.dtype == torch.uint8
        assert part.data_ptr() % 64 == 0
        assert not part.any()
        part.fill_(index + 1)
    for index, part in enumerate(parts):
        assert (part == index + 1).all()
    assert [part.numel() for part in parts] == [1000, 1, 4096, 129]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_any_size(size: int) -> None:
    part = weight_memory(size)
    assert part.numel() == size
    part[-1:] = 7
    assert (part[-1:] == 7).all()


def test_it_is_given_back_with_its_last_weight() -> None:
    first, second = weight_memory(CHUNK_BYTES - 4096), weight_memory(100)
    assert memory._chunk is not None
    chunk = memory._chunk
    del first
    gc.collect()
    assert chunk() is not None
    second.fill_(1)
    del second
    gc.collect()
    assert chunk() is None
    assert weight_memory(5).numel() == 5
