"""Attention with every option, against its formula. Legend as attention_problem.py."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.attention_problem import PROBLEMS, Problem, problems, with_types

from octavo import ops
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
    Problem(requests=((5, 2200),), left=2100, right=0, group=1, has_sinks=True),
    Problem(requests=((2, 4200),), right=0, group=1, block_size=None, alibi="heads"),
]


@pytest.fixture
def backend(attention_backend):
    return attention_backend


def attend(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    q, k_cache, v_cache, plan = problem.inputs()
    lse = torch.full((problem.num_heads, len(q)), torch.nan)
    return ops.paged_attention(q, k_cache, v_cache, plan, problem.options(), lse_HT=lse), lse


def assert_close(problem: Problem) -> None:
    """Twice the error of the formula at the types' precision, the coarser of q's and the cache's, and 1e-5."""
    o, lse = attend(problem)
    exact, exact_lse = problem.formula(torch.float64)
    precision = problem.q_dtype if problem.dtype.itemsize == 1 or problem.q_dtype != torch.float32 else problem.dtype
    if problem.dtype.itemsize == 1:
        precision = torch.bfloat16  # which the path on AMX tiles multiplies in
    plain, plain_lse = problem.formula(torch.float32, precision)
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
    requests = ((5, 20), (70, 300), (1, 130))
    both = with_types(Problem(requests=requests, right=3, left=100, key_size=40, block_size=None), *types)
    o, lse = attend(both)
    q, k_cache, v_cache, plan = both.inputs()
    row = 0
    for r, (n, _) in enumerate(requests):
        starts = torch.tensor([0, n], dtype=torch.int32)
        alone = ops.AttentionPlan(
            query_starts=starts,
            seq_lens=plan.seq_lens[r : r + 1],
            block_tables=plan.block_tables[r : r + 1],
            block_size=plan.block_size,
            key_starts=plan.key_starts[r : r + 1],
        )
        part = torch.empty(both.num_heads, n)
        got = ops.paged_attention(q[row : row + n], k_cache, v_cache, alone, both.options(), lse_HT=part)
        assert torch.equal(got, o[row : row + n])
        assert torch.equal(part, lse[:, row : row + n])
        row += n


def test_outputs_go_where_they_are_asked(backend):
    problem = Problem(requests=((20, 50),), q_dtype=torch.bfloat16, dtype=torch.bfloat16)
    want, want_lse = attend(problem)
    q, k_cache, v_cache, plan = problem.inputs()
    for out in (
        torch.zeros(20, 4, 40, dtype=torch.bfloat16)[..., 8:24],
        torch.zeros(4, 20, 16, dtype=torch.bfloat16).transpose(0, 1),
        torch.zeros(16, 20, 4, dtype=torch.bfloat16).permute(1, 2, 0),
    ):
        lse = torch.zeros(20, 4).T
        strided_q = torch.zeros(16, 20, 4, dtype=torch.bfloat16).permute(1, 2, 0).copy_(q)
        got = ops.paged_attention(strided_q, k_cache, v_cache, plan, problem.options(), out=out, lse_HT=lse)
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
    problem = Problem(requests=((64, 300),), dropout=0.3, group=1, key_size=1, scale=0.0)
    for values in problem.tensors["values"]:
        values.fill_(1.0)
    o, _ = attend(problem)
    assert abs(o.mean() - 1.0) < 0.02
    assert 0.01 < o.std() < 0.06
