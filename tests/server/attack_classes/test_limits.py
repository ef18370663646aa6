"""The limits see what they are there for."""

from collections.abc import Callable

import pytest
import torch
from server.attack_classes.limits import ADDRESSES, bounded


@pytest.mark.parametrize("allocate", [bytearray, lambda size: torch.empty(size, dtype=torch.uint8)])
def test_an_over_allocation_is_refused_inside_alone(allocate: Callable[[int], bytearray | torch.Tensor]) -> None:
    with pytest.raises((MemoryError, RuntimeError)), bounded():
        allocate(2 * ADDRESSES)
    assert len(allocate(2 * ADDRESSES)) == 2 * ADDRESSES
