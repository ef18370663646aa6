import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.tensors import randn

from octavo import ops
from octavo.ops import OpArgumentError, reference

EPS = 1e-5


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return randn(*shape, seed=seed) * 3 + 0.5


def run(op: str, backend: str, *args):
    return getattr(reference if backend == "reference" else ops, op)(*args)


def rms_formula(x, w):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 7), (2, 576), (40, 1537), (1, 40000), (5, 3, 64), (0, 2, 4)])
def test_rms_norm_is_accurate(shape, backend, assert_accurate):
    x, w = rows(*shape), rows(shape[-1], seed=1)
    got = run("rms_norm", backend, x, w, EPS)
    assert_accurate(got, rms_formula(x, w), rms_formula(x.double(), w.double()))


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 7), (2, 576), (40, 1537)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_layer_norm_is_accurate(shape, has_bias, backend, assert_accurate):
    x, w = rows(*shape), rows(shape[-1], seed=1)
    b = rows(shape[-1], seed=2) if has_bias else None
    got = run("layer_norm", backend, x, w, b, EPS)
    plain = torch.nn.functional.layer_norm(x, x.shape[-1:], w, b, EPS)
    exact = torch.nn.functional.layer_norm(x.double(), x.shape[-1:], w.double(), None if b is None else b.double(), EPS)
    assert_accurate(got, plain, exact)


def test_add_rms_norm_is_the_two_ops(backend):
    x, residual, w = rows(9, 100), rows(9, 100, seed=4), rows(100, seed=1)
    normed, total = run("add_rms_norm", backend, x, residual, w, EPS)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, run("rms_norm", backend, total, w, EPS))
    assert torch.equal(x, rows(9, 100))


@pytest.mark.parametrize("width", [5, 64, 1000, 20000])
def test_a_row_does_not_know_its_batch(width, backend, threads):
    x, w, b = rows(37, width), rows(width, seed=1), rows(width, seed=2)
    threads(2)
    whole_rms, whole_layer = run("rms_norm", backend, x, w, EPS), run("layer_norm", backend, x, w, b, EPS)
    for count in (1, 2):
        threads(count)
        for part in (slice(0, 1), slice(3, 10), slice(36, 37)):
            assert torch.equal(run("rms_norm", backend, x[part], w, EPS), whole_rms[part])
            assert torch.equal(run("layer_norm", backend, x[part], w, b, EPS), whole_layer[part])


def test_strided_rows(backend):
    wide = rows(6, 4, 50)
    w = rows(20, seed=1)
    for x in (wide[:, 0, 3:23], wide[:, :, 3:23], wide[:, 1:3, :20], wide[::2, ::3, 7:27], wide[:1, :, 9:29]):
        assert torch.equal(run("rms_norm", backend, x, w, EPS), run("rms_norm", backend, x.clone(), w, EPS))
    x = wide[:, 2, 1:21]
    assert torch.equal(run("layer_norm", backend, x, w, None, EPS), run("layer_norm", backend, x.clone(), w, None, EPS))
    first, _ = run("add_rms_norm", backend, x, wide[:, 3, 5:25], w, EPS)
    assert torch.equal(first, run("add_rms_norm", backend, x.clone(), wide[:, 3, 5:25].clone(), w, EPS)[0])


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(0, 5), width=st.integers(1, 200))
def test_any_size(num_rows, width, assert_accurate):
    x, w = rows(num_rows, width), rows(width, seed=1)
    assert_accurate(ops.rms_norm(x, w, EPS), rms_formula(x, w), rms_formula(x.double(), w.double()))


def test_half_precision_keeps_its_dtype():
    x = rows(4, 33).bfloat16()
    assert ops.rms_norm(x, rows(33), EPS).dtype == torch.bfloat16


def test_arguments_are_checked():
    x, w = rows(2, 6), rows(6)
    for call in (
        lambda: ops.rms_norm(x[0], w, EPS),
        lambda: ops.rms_norm(x, rows(5), EPS),
        lambda: ops.rms_norm(x, w, 0.0),
        lambda: ops.rms_norm(x, w, float("nan")),
        lambda: ops.rms_norm(x.int(), w, EPS),
        lambda: ops.rms_norm(x[:, :0], w[:0], EPS),
        lambda: ops.add_rms_norm(x, x[:1], w, EPS),
        lambda: ops.add_rms_norm(x, x.double(), w, EPS),
        lambda: ops.layer_norm(x, w, rows(5), EPS),
        lambda: ops.layer_norm(x[None], w, None, EPS),
    ):
        with pytest.raises(OpArgumentError):
            call()
