"""Tile maximums and softmax."""

import pytest
import torch
from ops.tensors import randn

from octavo import ops
from octavo.ops import OpArgumentError


def logits(*shape: int) -> torch.Tensor:
    return 5 * randn(*shape)


@pytest.mark.parametrize("width", [1, 7, 127, 128, 129, 1000])
@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_tile_max(num_rows, width, backend):
    x = logits(num_rows, width)
    want = (
        torch.stack([part.amax(-1) for part in x.split(128, dim=1)], dim=1)
        if num_rows
        else x.new_empty(0, -(-width // 128))
    )
    assert torch.equal(ops.tile_max(x, 128), want)
    assert torch.equal(ops.tile_max(x.T.contiguous().T, 128), want)


@pytest.mark.parametrize("at", [0, 3, 15, 16, 127, 130, 132])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_tile_max_of_what_is_not_finite(at, value, backend):
    x = logits(2, 133)
    x[1, at] = value
    got = ops.tile_max(x, 128)
    assert torch.equal(got[0], torch.stack([x[0, :128].amax(), x[0, 128:].amax()]))
    assert torch.equal(got[1].isnan(), torch.stack([x[1, :128].amax(), x[1, 128:].amax()]).isnan())
    assert torch.equal(got[1].nan_to_num(0), torch.stack([x[1, :128].amax(), x[1, 128:].amax()]).nan_to_num(0))


@pytest.mark.parametrize("width", [1, 5, 16, 33, 1000])
def test_softmax(width, backend, assert_accurate):
    x, t = logits(4, width), torch.tensor([1.0, 0.5, 2.0, 0.1])
    exact = torch.softmax(x.double() / t.double()[:, None], -1)
    assert_accurate(ops.softmax(x, t), torch.softmax(x / t[:, None], -1), exact)
    assert_accurate(ops.softmax(x), torch.softmax(x, -1), torch.softmax(x.double(), -1))
    assert_accurate(ops.log_softmax(x), torch.log_softmax(x, -1), torch.log_softmax(x.double(), -1))
    assert torch.equal(ops.softmax(x[1:2], t[1:2]), ops.softmax(x, t)[1:2])
    assert ops.softmax(x[:0]).shape == (0, width)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_makes_a_row_nan(value, backend):
    x = logits(3, 37)
    x[1, 36], x[2] = value, -torch.inf
    for got in (ops.softmax(x), ops.log_softmax(x)):
        assert got[0].isfinite().all()
        assert got[1:].isnan().all()
    x = logits(1, 37)
    x[0, 5] = -torch.inf  # a forbidden token
    assert ops.softmax(x)[0, 5] == 0
    assert ops.log_softmax(x)[0, 5] == -torch.inf


def test_wrong_arguments():
    for call in (
        lambda: ops.tile_max(logits(2, 3), 0),
        lambda: ops.softmax(logits(2, 3), torch.ones(3)),
        lambda: ops.log_softmax(logits(3)),
        lambda: ops.softmax(torch._neg_view(logits(2, 3))),
        lambda: ops.softmax(logits(2, 3).to_sparse()),
    ):
        with pytest.raises(OpArgumentError):
            call()


def test_a_tile_wider_than_any_row(backend):
    x = logits(2, 5)
    assert torch.equal(ops.tile_max(x, 2**63 - 1), x.amax(dim=1, keepdim=True))
