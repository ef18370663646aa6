"""Attention with every option, against its formula. Legend as attention_problem.py."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.attention_bounds import FORWARD, assert_lse_near, assert_near
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


def attend(built: Built) -> tuple[torch.Tensor, torch.Tensor]:
    o, lse = built.outputs()
    ops.paged_attention(built.q, built.k_cache, built.v_cache, built.plan, built.options, out=o, lse_HT=lse)
    return o, lse


def multiplied_in(built: Built, backend: str) -> torch.dtype:
    """On tiles the coarser type of q and the cache, or q's if the cache is of bytes and q is bf16; elsewhere fp32."""
    q_dtype, cache_dtype = built.q.dtype, built.k_cache.dtype
    if not backend.endswith("amx") or (cache_dtype.itemsize == 1 and q_dtype == torch.float32):
        return torch.float32
    return cache_dtype if q_dtype == torch.float32 else q_dtype


def assert_close(problem: Problem, backend: str) -> None:
    """Where tiles are to multiply an fp32 q by keys that are coarser, q has the values of their type, to which it is rounded."""
    built = problem.build()
    precision = multiplied_in(built, backend)
    built = replace(built, q=built.q.to(precision).to(built.q.dtype))
    o, lse = attend(built)
    exact, exact_lse = built.formula(torch.float64)
    same_precision = precision if built.q.dtype == torch.float32 else built.q.dtype
    plain, _ = built.formula(torch.float32, same_precision)
    assert_near(o, plain.to(same_precision), exact, FORWARD)
    assert_lse_near(lse, exact_lse, precision)


@pytest.mark.parametrize("types", TYPES, ids=lambda types: " ".join(str(t).removeprefix("torch.") for t in types))
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_options_are_accurate(case, types, attention_backend):
    if attention_backend == "reference" and types != TYPES[0] and types[1].itemsize > 1:
        pytest.skip("the reference computes in fp32 whatever the types")
    assert_close(with_types(case, *types), attention_backend)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), types=st.sampled_from(TYPES))
def test_any_problem(attention_backend, problem, types):
    assert_close(with_types(problem, *types), attention_backend)


@pytest.mark.parametrize("types", TYPES[:3], ids=str)
def test_a_request_has_the_same_bits_alone(types, attention_backend):
    requests, window = ((5, 20), (70, 300), (1, 130)), {"window_left": 100, "window_right": 3}
    problem = Problem(requests=requests, key_size=40, layout=Layout.VARLEN, options=window)
    together = with_types(problem, *types).build()
    o, lse = attend(together)
    parts = [attend(together.alone(request)) for request in range(len(requests))]
    assert torch.equal(torch.cat([part for part, _ in parts]), o)
    assert torch.equal(torch.cat([part for _, part in parts], 1), lse)


def test_outputs_go_where_they_are_asked(attention_backend):
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


def test_dropout_drops_its_share(attention_backend):
    """Of values of one, an output is the share that stays, made up for."""
    options = {"dropout": Dropout(probability=0.3, seed=0)}
    built = Problem(requests=((64, 300),), group=1, key_size=1, scale=0.0, options=options).build()
    built.v_cache.fill_(1.0)
    o, _ = attend(built)
    assert abs(o.mean() - 1.0) < 0.02
    assert 0.01 < o.std() < 0.06
