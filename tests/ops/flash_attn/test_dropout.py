"""Legend: B batch, S rows, M keys, H query heads."""

import math

import pytest
import torch
from ops.attention_bounds import FORWARD, GRADIENTS, assert_near
from ops.flash_attn.formula import Options, attention, batch_attention, gradients, randn

from octavo.ops import OpArgumentError, flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache

P = 0.3


def inputs(batch=2, num_rows=20, num_keys=30, dtype=torch.float32):
    q = randn(batch, num_rows, 4, 16, seed=0, dtype=dtype)
    k, v = (randn(batch, num_keys, 2, 16, seed=i, dtype=dtype) for i in (1, 2))
    return [x.requires_grad_() for x in (q, k, v)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [Options(), Options(causal=True, softcap=2.0), Options(window_size=(9, 4))],
    ids=["all", "causal", "local"],
)
def test_output_and_gradients_are_those_of_the_mask(options, dtype, attention_backend):
    """S_dmask tells what was dropped; the formula with that mask has the same output and gradients."""
    leaves = inputs(dtype=dtype)
    exact_leaves = [x.detach().double().requires_grad_() for x in leaves]
    torch.manual_seed(5)
    got = flash_attn_func(*leaves, P, **options.arguments, return_attn_probs=True)
    keep = got.S_dmask >= 0
    plain = batch_attention(*exact_leaves, options)
    rtol = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(got.S_dmask.abs().double(), plain.probabilities, atol=1e-6, rtol=rtol)
    same, exact = (
        torch.stack([attention(*x, options, mask, P).out for *x, mask in zip(*each, keep, strict=True)])
        for each in (leaves, exact_leaves)
    )
    assert_near(got.out, same, exact, FORWARD)
    do = randn(*got.out.shape, seed=4, dtype=dtype)
    all_gradients = (
        gradients(got.out, do, leaves),
        gradients(same, do, leaves),
        gradients(exact, do, exact_leaves),
    )
    for each in zip(*all_gradients, strict=True):
        assert_near(*each, GRADIENTS)


def test_as_many_are_dropped_as_asked_for():
    q, k, v = inputs(num_rows=64, num_keys=128)
    for p in (0.05, 0.5, 0.9):
        s_dmask = flash_attn_func(q, k, v, p, return_attn_probs=True).S_dmask
        drawn = s_dmask[s_dmask != 0]
        count = drawn.numel()
        dropped = int((drawn < 0).sum())
        assert abs(dropped - p * count) < 5 * math.sqrt(count * p * (1 - p))
        for axis in range(4):  # no row, key, head or request is like another
            others = tuple(i for i in range(4) if i != axis)
            share = (s_dmask < 0).float().mean(others)
            spread = math.sqrt(p * (1 - p) * s_dmask.shape[axis] / s_dmask.numel())
            assert ((share - p).abs() < 5.5 * spread).all()


def test_the_expected_output_is_that_without_dropout():
    q, k, v = (x.detach() for x in inputs(num_rows=2, num_keys=20))
    torch.manual_seed(0)
    draws = torch.stack([flash_attn_func(q, k, v, 0.2) for _ in range(120)])
    want = flash_attn_func(q, k, v)
    assert ((draws.mean(0) - want).abs() < 5 * draws.std(0) / math.sqrt(120) + 1e-6).all()


def test_the_generator_of_torch_decides(attention_backend):
    leaves = inputs()
    do = randn(2, 20, 4, 16, seed=4)

    def run():
        out = flash_attn_func(*leaves, P, causal=True)
        return [out, *gradients(out, do, leaves)]

    torch.manual_seed(1)
    first, second = run(), run()
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))
    assert not torch.equal(first[0], second[0])
    state = torch.get_rng_state()
    flash_attn_func(*leaves)
    assert torch.equal(state, torch.get_rng_state())


def test_the_seed_is_drawn_on_the_cpu():
    q, k, v = (x.detach() for x in inputs())
    torch.manual_seed(1)
    want = flash_attn_func(q, k, v, P)
    torch.manual_seed(1)
    with torch.device("meta"):
        got = flash_attn_func(q, k, v, P)
    assert torch.equal(got, want)


def test_requests_of_different_lengths(attention_backend):
    row_lens, key_lens = (7, 0, 20), (9, 4, 30)
    cu_q, cu_k = (torch.tensor([0, *lens]).cumsum(0).int() for lens in (row_lens, key_lens))
    q = randn(30, 4, 16, seed=0).requires_grad_()
    k, v = (randn(45, 2, 16, seed=i).requires_grad_() for i in (1, 2))
    got = flash_attn_varlen_func(q, k, v, cu_q, cu_k, 20, 30, P, causal=True, return_attn_probs=True)
    assert got.softmax_lse.shape == (4, 30)
    assert got.S_dmask.shape == (3, 4, 20, 30)
    assert 0.1 < (got.S_dmask < 0).float().sum() / (got.S_dmask != 0).float().sum() < 0.5
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    want = q.new_zeros(q.shape).double()
    for i, (num_rows, num_keys) in enumerate(zip(row_lens, key_lens, strict=True)):
        rows, keys = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
        s_dmask = got.S_dmask[i]
        assert not s_dmask[:, num_rows:].any()
        assert not s_dmask[:, :, num_keys:].any()
        mask = s_dmask[:, :num_rows, :num_keys] >= 0
        parts = exact[0][rows], exact[1][keys], exact[2][keys]
        want[rows] = attention(*parts, Options(causal=True), mask, P).out
    torch.testing.assert_close(got.out.double(), want, atol=1e-5, rtol=1e-5)
    do = randn(*q.shape, seed=4)
    for mine, theirs in zip(gradients(got.out, do, (q, k, v)), gradients(want, do, exact), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-5, rtol=1e-5)


def test_probabilities_of_nothing_have_a_place_for_each_request():
    q, k = randn(3, 4, 8, seed=0), randn(0, 2, 8, seed=1)
    row_starts, key_starts = torch.tensor([0, 3]), torch.tensor([0, 0])
    got = flash_attn_varlen_func(q, k, k, row_starts, key_starts, 3, 0, P, return_attn_probs=True)
    assert got.S_dmask.shape == (1, 4, 3, 0)
    assert flash_attn_func(q[None], k[None], k[None], P, return_attn_probs=True).S_dmask.shape == (1, 4, 3, 0)


def test_only_in_training():
    q, k, v = (x.detach() for x in inputs())
    flash_attn_func(q, k, v, P)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(OpArgumentError, match="pass 0 in evaluation"):
            flash_attn_func(q, k, v, P)
    assert "dropout_p" not in flash_attn_with_kvcache.__annotations__


def test_recomputed_activations_have_the_same_mask():
    leaves = inputs()

    def run(function):
        torch.manual_seed(2)
        out = function(*leaves)
        return [out, *gradients(out, torch.ones_like(out), leaves)]

    def function(q, k, v):
        return flash_attn_func(q, k, v, P)

    want = run(function)
    got = run(lambda *x: torch.utils.checkpoint.checkpoint(function, *x, use_reentrant=False))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
