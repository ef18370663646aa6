import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.tensors import randn
from torch.nn import functional

from octavo import ops
from octavo.ops import OpArgumentError, reference


def formula(op: str, x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, dim=-1)
    return (functional.silu(gate) if op == "silu_mul" else functional.gelu(gate, approximate="tanh")) * up


def run(op: str, backend: str, x: torch.Tensor) -> torch.Tensor:
    return getattr(reference if backend == "reference" else ops, op)(x)


@pytest.mark.parametrize("op", ["silu_mul", "gelu_tanh_mul"])
@pytest.mark.parametrize("shape", [(0, 8), (1, 2), (3, 14), (40, 3072), (2, 0)])
def test_accurate(op, shape, backend, assert_accurate):
    x = randn(*shape) * 4
    assert_accurate(run(op, backend, x), formula(op, x), formula(op, x.double()))


@pytest.mark.parametrize("op", ["silu_mul", "gelu_tanh_mul"])
def test_relative_error_over_the_whole_range(op, backend):
    gate = torch.cat((torch.linspace(-12, 30, 4001), torch.tensor([-1e30, -200.0, -88.0, 0.0, 1e-30, 88.5, 1e30])))
    x = torch.cat((gate, torch.ones_like(gate)))[None]
    exact = formula(op, x.double())
    error = (run(op, backend, x).double() - exact).abs()
    floor = 2e-7 * gate.abs().clamp(max=1) if op == "gelu_tanh_mul" else 1e-30  # 1 + tanh cancels, by definition
    assert bool((error <= 6e-7 * exact.abs() + floor).all())


@pytest.mark.parametrize("op", ["silu_mul", "gelu_tanh_mul"])
def test_a_row_does_not_know_its_batch(op, backend, threads):
    x = randn(37, 2 * 1001)
    threads(2)
    whole = run(op, backend, x)
    threads(1)
    for part in (slice(0, 1), slice(3, 10), slice(36, 37)):
        assert torch.equal(run(op, backend, x[part]), whole[part])


@pytest.mark.parametrize("op", ["silu_mul", "gelu_tanh_mul"])
def test_strided_rows(op, backend):
    wide = randn(5, 90)
    for x in (wide[:, 3:71], wide[::2, :6], wide.T[:8, :4]):
        assert torch.equal(run(op, backend, x), run(op, backend, x.clone(memory_format=torch.contiguous_format)))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 4), width=st.integers(0, 70))
def test_any_size(rows, width, assert_accurate):
    x = randn(rows, 2 * width)
    assert_accurate(ops.silu_mul(x), formula("silu_mul", x), formula("silu_mul", x.double()))


def test_arguments_are_checked():
    for x in (torch.zeros(2, 3), torch.zeros(4), torch.zeros(2, 4, dtype=torch.int32)):
        with pytest.raises(OpArgumentError):
            ops.silu_mul(x)
        with pytest.raises(OpArgumentError):
            ops.gelu_tanh_mul(x)
