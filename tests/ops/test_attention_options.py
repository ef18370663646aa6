"""Attention with every option, against its formula. Legend as attention_problem.py."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.attention_bounds import FORWARD, assert_lse_near, assert_near
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


def typed(problem: Problem, q_dtype: torch.dtype, dtype: torch.dtype) -> Problem:
    """With scores of the same size whatever the types: keys of int8 are thirty times as large."""
    scale = problem.scale / 30 if dtype == torch.int8 else problem.scale
    return with_types(replace(problem, scale=scale), q_dtype, dtype)


def multiplied_in(problem: Problem, backend: str) -> torch.dtype:
    """On tiles the coarser type of q and the cache, or q's if the cache is of bytes and q is bf16; elsewhere fp32."""
    if not backend.endswith("amx") or (problem.dtype.itemsize == 1 and problem.q_dtype == torch.float32):
        return torch.float32
    return problem.dtype if problem.q_dtype == torch.float32 else problem.q_dtype


def assert_close(problem: Problem, backend: str) -> None:
    """Where tiles are to multiply an fp32 q by keys that are coarser, q has the values of their type, to which it is rounded."""
    precision = multiplied_in(problem, backend)
    problem.tensors["q"] = problem.tensors["q"].to(precision).to(problem.q_dtype)
    o, lse = attend(problem)
    exact, exact_lse = problem.formula(torch.float64)
    same_precision = precision if problem.q_dtype == torch.float32 else problem.q_dtype
    plain, _ = problem.formula(torch.float32, same_precision)
    assert_near(o, plain.to(same_precision), exact, FORWARD)
    assert_lse_near(lse, exact_lse, precision)


@pytest.mark.parametrize("types", TYPES, ids=lambda types: " ".join(str(t).removeprefix("torch.") for t in types))
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_options_are_accurate(case, types, backend):
    if backend == "reference" and types != TYPES[0] and types[1].itemsize > 1:
        pytest.skip("the reference computes in fp32 whatever the types")
    assert_close(typed(case, *types), backend)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), types=st.sampled_from(TYPES))
def test_any_problem(backend, problem, types):
    assert_close(typed(problem, *types), backend)


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
