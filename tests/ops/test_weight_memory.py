"""Memory for packed weights: neighbours share it, and it goes with the last of them."""

import gc

import pytest
import torch

pytest.importorskip("octavo._native")

from octavo.ops.cpu.weight_memory import ALIGNMENT, CHUNK_BYTES, WeightMemory


def test_neighbours_lie_side_by_side_and_apart() -> None:
    memory = WeightMemory()
    sizes = (1000, 1, 4096, 129)
    parts = [memory.take(size) for size in sizes]
    for index, part in enumerate(parts):
        assert part.dtype == torch.uint8
        assert part.data_ptr() % ALIGNMENT == 0
        assert not part.any()
        part.fill_(index + 1)
    for index, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        assert part.numel() == size
        assert (part == index + 1).all()
    assert parts[-1].data_ptr() - parts[0].data_ptr() < 6000


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_any_size(size: int) -> None:
    part = WeightMemory().take(size)
    assert part.numel() == size
    part[-1:] = 7
    assert (part[-1:] == 7).all()


def test_it_is_given_back_with_its_last_weight() -> None:
    memory = WeightMemory()
    first, second = memory.take(CHUNK_BYTES - 4096), memory.take(100)
    assert memory._chunk is not None
    chunk = memory._chunk
    del first
    gc.collect()
    assert chunk() is not None
    second.fill_(1)
    del second
    gc.collect()
    assert chunk() is None
    assert memory.take(5).numel() == 5
