"""flash_attn.layers.rotary's function, against a rotation of complex numbers."""

import pytest
import torch
from ops.flash_attn.formula import randn
from ops.flash_attn.rotation import rotated

from octavo.ops import OpArgumentError
from octavo.ops.flash_attn.rotary import apply_rotary_emb


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation(dtype, interleaved):
    x = randn(2, 5, 3, 16, seed=0, dtype=dtype)
    angles = randn(30, 5, seed=1)
    tables = angles.cos().to(dtype), angles.sin().to(dtype)
    tolerance = {"atol": 1e-5, "rtol": 2 * torch.finfo(dtype).eps}
    for offset in (0, 7, torch.tensor([3, 20])):
        got = apply_rotary_emb(x, *tables, interleaved, seqlen_offsets=offset)
        assert torch.equal(got[..., 10:], x[..., 10:])
        for i in range(2):
            first = int(offset[i]) if isinstance(offset, torch.Tensor) else offset
            want = rotated(x[i], first + torch.arange(5), angles, interleaved)
            torch.testing.assert_close(got[i], want, **tolerance)
    cu_seqlens = torch.tensor([0, 4, 4, 10], dtype=torch.int32)
    got = apply_rotary_emb(
        x.flatten(0, 1),
        *tables,
        interleaved,
        seqlen_offsets=torch.tensor([1, 2, 3]),
        cu_seqlens=cu_seqlens,
        max_seqlen=6,
    )
    positions = torch.cat((1 + torch.arange(4), 3 + torch.arange(6)))
    torch.testing.assert_close(got, rotated(x.flatten(0, 1), positions, angles, interleaved), **tolerance)
    copy = x.clone()
    assert apply_rotary_emb(copy, *tables, interleaved, inplace=True) is copy
    assert torch.equal(copy, apply_rotary_emb(x, *tables, interleaved))


def test_it_has_a_gradient():
    x, angles = randn(1, 4, 2, 6, seed=0).requires_grad_(), randn(9, 3, seed=1)
    out = apply_rotary_emb(x, angles.cos(), angles.sin(), seqlen_offsets=2)
    (grad,) = torch.autograd.grad(out, [x], out.detach())
    torch.testing.assert_close(grad, x.detach())  # a rotation's transpose is its inverse


@pytest.mark.parametrize(
    "changes",
    [
        {"cos": torch.zeros(9, 4), "sin": torch.zeros(9, 4)},
        {"sin": torch.zeros(8, 3)},
        {"seqlen_offsets": 6},
        {"seqlen_offsets": -1},
        {"seqlen_offsets": torch.tensor([0, 0])},
        {"seqlen_offsets": 2**63},
        {"max_seqlen": 3},
        {"max_seqlen": "6"},
        {"x": torch.zeros(4, 2, 6)},
        {"x": torch.zeros(4, 2, 6), "cu_seqlens": torch.tensor([0, 5])},
        {"x": torch.zeros(4, 2, 6), "cu_seqlens": torch.tensor([0, 3, 2])},
        {"x": torch.zeros(4, 2, 6), "cu_seqlens": torch.tensor([0])},
        {"x": torch.zeros(0, 2, 6), "cu_seqlens": torch.tensor([], dtype=torch.int32)},
        {"x": torch.zeros(4, 2, 6), "cu_seqlens": torch.tensor([0, 1, 4]), "max_seqlen": 2},
        {"interleaved": "no"},
        {"x": torch.zeros(1, 4, 2, 6).requires_grad_(), "inplace": True},
    ],
)
def test_arguments_are_checked(changes):
    good = {"x": torch.zeros(1, 4, 2, 6), "cos": torch.zeros(9, 3), "sin": torch.zeros(9, 3)}
    with pytest.raises(OpArgumentError):
        apply_rotary_emb(**{**good, **changes})
