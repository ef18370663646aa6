"""Attention with every option, against its formula. Legend as attention_problem.py."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.attention_problem import PROBLEMS, Built, Layout, Problem, head_slopes, problems, sinks, with_types

from octavo import ops
from octavo.ops import Dropout
from octavo.ops.reference.philox import philox

TYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.bfloat16, torch.float8_e4m3fn),
    (torch.float32, torch.int8),
]
CASES = [
    *PROBLEMS,
    Problem(requests=((5, 2200),), group=1, options={"window_left": 2100, "window_right": 0, "sinks": sinks}),
    Problem(
        requests=((2, 4200),), group=1, layout=Layout.VARLEN, options={"window_right": 0, "alibi_slopes": head_slopes}
    ),
]


@pytest.fixture
def backend(attention_backend):
    return attention_backend


def attend(built: Built) -> tuple[torch.Tensor, torch.Tensor]:
    o, lse = built.outputs()
    ops.paged_attention(built.q, built.k_cache, built.v_cache, built.plan, built.options, out=o, lse_HT=lse)
    return o, lse


def assert_close(problem: Problem) -> None:
    """Twice the error of the formula at the types' precision, the coarser of q's and the cache's, and 1e-5."""
    built = problem.build()
    o, lse = attend(built)
    exact, exact_lse = built.formula(torch.float64)
    precision = built.k_cache.dtype if built.q.dtype == torch.float32 else built.q.dtype
    if built.k_cache.dtype.itemsize == 1:
        precision = torch.bfloat16  # which the path on AMX tiles multiplies in
    plain, plain_lse = built.formula(torch.float32, precision)
    if not o.numel():
        return
    assert (o.double() - exact).abs().max() <= 2 * (plain - exact).abs().max() + 1e-5
    assert torch.equal(lse == -torch.inf, exact_lse == -torch.inf)
    seen = exact_lse != -torch.inf
    if seen.any():
        bound = 1e-5 * (1 + exact_lse[seen].abs().max()) if precision == torch.float32 else 2e-2
        error = (lse.double() - exact_lse)[seen].abs().max()
        assert error <= max(bound, 2 * (plain_lse - exact_lse)[seen].abs().max())


@pytest.mark.parametrize("types", TYPES, ids=lambda types: " ".join(str(t).removeprefix("torch.") for t in types))
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_options_are_accurate(case, types, backend):
    if backend == "reference" and types != TYPES[0] and types[1].itemsize > 1:
        pytest.skip("the reference computes in fp32 whatever the types")
    assert_close(with_types(case, *types))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), types=st.sampled_from(TYPES))
def test_any_problem(backend, problem, types):
    assert_close(with_types(problem, *types))


@pytest.mark.parametrize("types", TYPES[:3], ids=str)
def test_a_request_has_the_same_bits_alone(types, backend):
    requests, window = ((5, 20), (70, 300), (1, 130)), {"window_left": 100, "window_right": 3}
    problem = Problem(requests=requests, key_size=40, layout=Layout.VARLEN, options=window)
    together = with_types(problem, *types).build()
    o, lse = attend(together)
    parts = [attend(together.alone(request)) for request in range(len(requests))]
    assert torch.equal(torch.cat([part for part, _ in parts]), o)
    assert torch.equal(torch.cat([part for _, part in parts], 1), lse)


def test_outputs_go_where_they_are_asked(backend):
    built = Problem(requests=((20, 50),), dtype=torch.bfloat16).build()
    want, want_lse = attend(built)
    for out in (
        torch.zeros(20, 4, 40, dtype=torch.bfloat16)[..., 8:24],
        torch.zeros(4, 20, 16, dtype=torch.bfloat16).transpose(0, 1),
        torch.zeros(16, 20, 4, dtype=torch.bfloat16).permute(1, 2, 0),
    ):
        lse = torch.zeros(20, 4).T
        q = torch.zeros(16, 20, 4, dtype=torch.bfloat16).permute(1, 2, 0).copy_(built.q)
        got = ops.paged_attention(q, built.k_cache, built.v_cache, built.plan, built.options, out=out, lse_HT=lse)
        assert got is out
        assert torch.equal(out, want)
        assert torch.equal(lse, want_lse)


def test_philox_is_the_generator_of_its_paper():
    """Known answers of Random123 for Philox-4x32-10."""
    zero, ones = torch.tensor(0), torch.tensor(0xFFFFFFFF)
    assert [int(x) for x in philox((zero,) * 4, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(x) for x in philox((ones,) * 4, 2**64 - 1)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_dropout_drops_its_share(backend):
    """Of values of one, an output is the share that stays, made up for."""
    options = {"dropout": Dropout(probability=0.3, seed=0)}
    built = Problem(requests=((64, 300),), group=1, key_size=1, scale=0.0, options=options).build()
    built.v_cache.fill_(1.0)
    o, _ = attend(built)
    assert abs(o.mean() - 1.0) < 0.02
    assert 0.01 < o.std() < 0.06
