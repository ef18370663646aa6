"""Sums, caps and rows taken."""

import pytest
import torch
from ops.tensors import randn

from octavo import ops
from octavo.ops import OpArgumentError


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 17), (33, 576)])
def test_add(shape, backend):
    x, y = randn(*shape), randn(*shape, seed=2)
    assert torch.equal(ops.add(x, y), x + y)
    assert torch.equal(ops.add(x.T.contiguous().T, y), x + y)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 17), (33, 576)])
def test_softcap(shape, backend, assert_accurate):
    x = 60 * randn(*shape)
    assert_accurate(ops.softcap(x, 30.0), torch.tanh(x / 30.0) * 30.0, torch.tanh(x.double() / 30.0) * 30.0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_take_rows(dtype, backend):
    x, rows = randn(9, 33), torch.tensor([8, 0, 3, 3], dtype=dtype)
    assert torch.equal(ops.take_rows(x, rows), x[rows.long()])
    assert torch.equal(ops.take_rows(x[:, 1:], rows[::2]), x[:, 1:][rows.long()[::2]])
    assert ops.take_rows(x, rows[:0]).shape == (0, 33)


def test_wrong_arguments():
    x = randn(3, 4)
    for call in (
        lambda: ops.add(x, randn(3, 5)),
        lambda: ops.softcap(x, 0.0),
        lambda: ops.take_rows(x, torch.tensor([3])),
        lambda: ops.take_rows(x, torch.tensor([-1])),
        lambda: ops.take_rows(x, torch.tensor([0.0])),
    ):
        with pytest.raises(OpArgumentError):
            call()
