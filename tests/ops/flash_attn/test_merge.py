"""Legend: B batch, S rows, M keys, H heads."""

import pytest
import torch
from ops.attention_bounds import FORWARD, assert_lse_near, assert_near
from ops.flash_attn.formula import Options, batch_attention, randn

from octavo.ops import OpArgumentError, flash_attn_func, flash_attn_varlen_func, merge_attn_states


def attend(q, k, v, **options):
    return flash_attn_func(q, k, v, return_attn_probs=True, **options)[:2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_parts_are_the_whole(dtype, attention_backend):
    q, k, v = (randn(2, n, 4, 16, seed=n, dtype=dtype) for n in (9, 40, 41))
    v = v[:, :40]
    whole = attend(q, k, v)
    for cut in (0, 1, 17, 40):
        out, lse = merge_attn_states(*attend(q, k[:, :cut], v[:, :cut]), *attend(q, k[:, cut:], v[:, cut:]))
        exact = batch_attention(*(x.double() for x in (q, k, v)), Options())
        same = batch_attention(q, k, v, Options())
        assert out.dtype == dtype
        assert_near(out, same.out, exact.out, FORWARD)
        assert_lse_near(lse, whole[1], dtype)


def test_rows_end_to_end():
    q, k, v = (randn(30, 4, 16, seed=i) for i in range(3))
    rows, keys = torch.tensor([0, 10, 30]), torch.tensor([0, 20, 30])
    whole = flash_attn_varlen_func(q, k, v, rows, keys, 20, 20, return_softmax_lse=True)
    used = torch.tensor([12, 3])
    first = flash_attn_varlen_func(q, k, v, rows, keys, 20, 20, seqused_k=used, return_softmax_lse=True)
    rest = torch.cat((k[12:20], k[23:])), torch.cat((v[12:20], v[23:]))
    second = flash_attn_varlen_func(q, *rest, rows, torch.tensor([0, 8, 15]), 20, 8, return_softmax_lse=True)
    merged = merge_attn_states(*first, *second)
    torch.testing.assert_close(merged.out, whole.out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged.softmax_lse, whole.softmax_lse, atol=1e-5, rtol=1e-6)


def test_rows_that_saw_nothing():
    out = randn(1, 2, 1, 3, seed=0)
    zero, nothing = torch.zeros_like(out), torch.full((1, 1, 2), -torch.inf)
    lse = randn(1, 1, 2, seed=1)
    for empty in (nothing, -nothing):  # flash-attn's kernels leave +∞
        merged = merge_attn_states(out, lse, zero, empty)
        assert torch.equal(merged.out, out)
        assert torch.equal(merged.softmax_lse, lse)
    assert torch.equal(merge_attn_states(zero, -nothing, zero, -nothing).softmax_lse, nothing)
    assert torch.equal(merge_attn_states(out, lse, zero, nothing).out, out)
    assert torch.equal(merge_attn_states(zero, nothing, out, lse).out, out)
    merged = merge_attn_states(zero, nothing, zero, nothing)
    assert torch.equal(merged.out, zero)
    assert torch.equal(merged.softmax_lse, nothing)


def test_gradients_pass_through_both_parts():
    leaves = [randn(1, n, 2, 8, seed=n).requires_grad_() for n in (5, 30, 31)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    q, k, v = leaves[0], leaves[1], leaves[2][:, :30]
    parts = (attend(q, k[:, part], v[:, part]) for part in (slice(0, 7), slice(7, 30)))
    out, lse = merge_attn_states(*next(parts), *next(parts))
    whole = batch_attention(exact[0], exact[1], exact[2][:, :30], Options())
    do, dlse = randn(*out.shape, seed=1), randn(*lse.shape, seed=2)
    mine = torch.autograd.grad((out, lse), leaves, (do, dlse))
    want = torch.autograd.grad((whole.out, whole.lse), exact, (do.double(), dlse.double()))
    for a, b in zip(mine, want, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)


def test_gradients_of_rows_that_saw_nothing_are_zero():
    out, nothing = randn(1, 2, 1, 3, seed=0).requires_grad_(), torch.full((1, 1, 2), -torch.inf, requires_grad=True)
    grads = torch.autograd.grad(merge_attn_states(out, nothing, out, nothing).out.sum(), [out, nothing])
    assert not any(x.any() for x in grads)


def test_arguments_are_checked():
    out, lse = torch.zeros(2, 3, 4, 8), torch.zeros(2, 4, 3)
    for wrong in (
        (out, lse, out[:1], lse),
        (out, lse, out.bfloat16(), lse),
        (out, lse.transpose(1, 2), out, lse),
        (out, lse, out, lse.double()),
        (out, lse, out, None),
        (out.double(), lse, out.double(), lse),
        (out[0, 0], lse, out, lse),
    ):
        with pytest.raises(OpArgumentError):
            merge_attn_states(*wrong)
