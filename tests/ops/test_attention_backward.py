"""Gradients of attention, against autograd of its formula. Legend as attention_problem.py."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ops.attention_bounds import FEW_GRADIENTS, GRADIENTS, Bound, assert_near
from ops.attention_problem import CAUSAL, PROBLEMS, Built, Layout, Problem, problems, slots

from octavo import ops
from octavo.ops import OpArgumentError

CASES = [
    *PROBLEMS,
    Problem(requests=((1, 1),)),
    Problem(requests=((200, 1100),), num_kv_heads=1, group=1, options=CAUSAL),
    Problem(
        requests=((1100, 700),),
        num_kv_heads=1,
        group=1,
        key_size=7,
        value_size=200,
        options={"window_left": 600, "window_right": 100},
    ),
]


def gradients(built: Built) -> tuple[torch.Tensor, ...]:
    o, lse = built.outputs()
    q, k_cache, v_cache, plan, options = built.q, built.k_cache, built.v_cache, built.plan, built.options
    ops.paged_attention(q, k_cache, v_cache, plan, options, out=o, lse_HT=lse)
    return ops.attention_backward(output_gradient(o), q, k_cache, v_cache, o, lse, plan, options)


def output_gradient(o: torch.Tensor) -> torch.Tensor:
    return torch.randn(o.shape, generator=torch.Generator().manual_seed(5)).to(o.dtype)


def assert_close(problem: Problem, bound: Bound = GRADIENTS) -> None:
    """Of autograd at the type's precision, which keeps the probabilities that attention makes again from a rounded log-sum-exp."""
    built = problem.build()
    do = output_gradient(built.outputs()[0])
    _, lse_HT = built.formula(torch.float64)
    largest_lse = float(lse_HT[lse_HT.isfinite()].abs().max()) if lse_HT.isfinite().any() else 0.0
    exact, plain = built.gradients(do, torch.float64), built.gradients(do, torch.float32, problem.dtype)
    for got, want, rough in zip(gradients(built), exact, plain, strict=True):
        assert got.shape == want.shape
        assert got.dtype == problem.dtype
        assert_near(got, rough.to(problem.dtype), want, bound, largest_lse)


DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_gradients_are_accurate(case, dtype, attention_backend):
    assert_close(replace(case, dtype=dtype))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), dtype=st.sampled_from(DTYPES))
def test_any_gradient(attention_backend, problem, dtype):
    """Heads of 8 at least and another request, for the error of autograd not to be luck: where all rows see one key, it is 0."""
    assume(problem.options.get("window_left") != 0)
    sizes = {"key_size": max(8, problem.key_size), "value_size": max(8, problem.value_size)}
    assert_close(replace(problem, requests=(*problem.requests, (24, 24)), dtype=dtype, **sizes), FEW_GRADIENTS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_and_companions_change_no_bit(dtype, attention_backend, threads):
    """Whole requests, or keys and rows apart: the same sums in the same order."""
    requests = ((70, 1200), (600, 650))
    together = Problem(requests=requests, num_kv_heads=1, layout=Layout.VARLEN, dtype=dtype, options=CAUSAL).build()
    threads(1)
    want = gradients(together)
    threads(2)
    for got, one in zip(gradients(together), want, strict=True):
        assert torch.equal(got, one)
    alone = together.alone(0)
    dq, dk, dv = gradients(alone)
    keys = slots(alone.plan, 0)
    assert torch.equal(dq, want[0][:70])
    for got, one in ((dk, want[1]), (dv, want[2])):
        assert torch.equal(got.flatten(0, 1)[keys], one.flatten(0, 1)[keys])


def test_the_default_device_is_not_asked(attention_backend):
    built = Problem(requests=((20, 50),)).build()
    want, (o, lse) = gradients(built), built.outputs()
    arguments = built.k_cache, built.v_cache, built.plan, built.options
    ops.paged_attention(built.q, *arguments, out=o, lse_HT=lse)
    do = output_gradient(o)
    with torch.device("meta"):
        got = ops.attention_backward(do, built.q, *arguments[:2], o, lse, *arguments[2:])
    for mine, one in zip(got, want, strict=True):
        assert torch.equal(mine, one)


def test_a_value_that_no_row_sees_spoils_nothing(attention_backend):
    if attention_backend == "reference":
        pytest.skip("multiplies what it hides by 0")
    built = Problem(requests=((50, 100),), options={"window_left": 20, "window_right": 0}).build()
    want = gradients(built)
    first = built.plan.block_tables[0, 0]
    built.v_cache[first, :5] = torch.inf
    built.k_cache[first, :5] = torch.nan
    for got, one in zip(gradients(built), want, strict=True):
        assert torch.equal(got, one)


def test_arguments_are_checked():
    built = Problem(requests=((20, 50),)).build()
    q, (o, lse) = built.q, built.outputs()

    def call(do=o, q=q, k_cache=built.k_cache, o=o, lse=lse):
        return ops.attention_backward(do, q, k_cache, built.v_cache, o, lse, built.plan, built.options)

    assert call()[0].shape == q.shape
    for wrong in (
        {"do": o[:-1]},
        {"do": o.double()},
        {"o": o[..., :-1]},
        {"lse": lse.T},
        {"lse": lse.double()},
        {"q": q[0]},
        {"q": q.half()},
    ):
        with pytest.raises(OpArgumentError):
            call(**wrong)


WITHOUT_MEMORY = """
import resource, torch
from octavo import ops

ops.set_num_threads(2)

def attend(n):
    x = torch.ones(n, 4, 64, dtype=torch.bfloat16)
    plan = ops.AttentionPlan(
        query_starts=torch.tensor([0, n], dtype=torch.int32), seq_lens=torch.tensor([n], dtype=torch.int32),
        block_tables=torch.zeros(1, 1, dtype=torch.int32), block_size=n,
    )
    return ops.attention_backward(x, x, x[None], x[None], x, torch.full((4, n), 1e9), plan, ops.AttentionOptions(scale=1.0))

def address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

attend(600)  # the threads have started
seen = set()
for quarters in range(24, 80):  # of a megabyte: first there is none for the gradients, then none for the kernels
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + (quarters << 18), resource.RLIM_INFINITY))
    try:
        attend(4096)
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        seen.add(type(error).__name__)
    else:
        break
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert attend(600)[0].isfinite().all()
print(*sorted(seen))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer's allocator ends the process")
@pytest.mark.skipif(not ops.has_bf16_tiles(), reason="only AMX's kernels take memory that grows with the request")
def test_memory_that_is_refused_is_an_error_of_that_call():
    # Every large allocation is a mapping of its own: what lies free in a heap would do, too.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["MemoryError", "RuntimeError"]


def first_rows_weights(num_keys, num_rows, left, slope):
    """Of one head of size 1 whose keys are all 0: what its first row weighs each key with."""
    q, keys = torch.zeros(num_rows, 1, 1), torch.zeros(1, num_keys, 1, 1)
    plan = ops.AttentionPlan(
        query_starts=torch.tensor([0, num_rows], dtype=torch.int32),
        seq_lens=torch.tensor([num_keys], dtype=torch.int32),
        block_tables=torch.zeros(1, 1, dtype=torch.int32),
        block_size=num_keys,
    )
    options = ops.AttentionOptions(
        scale=1.0, window_left=left, window_right=0, alibi_slopes=torch.tensor([slope]) if slope else None
    )
    d_o, lse = torch.zeros(num_rows, 1, 1), torch.empty(1, num_rows)
    d_o[0] = 1.0
    o = ops.paged_attention(q, keys, keys, plan, options, lse_HT=lse)
    return ops.attention_backward(d_o, q, keys, keys, o, lse, plan, options)[2].flatten()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_positions_are_exact_where_fp32_does_not_count(slope, attention_backend):
    """From 2²⁴ on, fp32 has only even numbers."""
    if attention_backend == "reference":
        pytest.skip("stores the matrix of all rows and keys")
    num_keys, num_rows, left = 2**24 + 64, 8, 4
    weights = first_rows_weights(num_keys, num_rows, left, slope)
    position = num_keys - num_rows
    want = torch.softmax(-slope * torch.arange(left, -1, -1.0), 0)
    torch.testing.assert_close(weights[position - left : position + 1], want, atol=1e-6, rtol=1e-5)
    assert weights.count_nonzero() == left + 1


def test_windows_that_fp32_does_not_hold_are_exact():
    weights = first_rows_weights(2**24 + 64, 1, 2**24 + 5, 0.0)
    assert weights.nonzero().flatten()[[0, -1]].tolist() == [58, 2**24 + 63]


def test_slots_of_two_requests_are_refused():
    """One gradient would be written over the other. Blocks that no row sees are nobody's."""
    q, k_cache = torch.ones(2, 1, 8), torch.ones(4, 4, 1, 8)

    def dv(tables, lens=(8, 8), key_starts=None, left=None):
        plan = ops.AttentionPlan(
            query_starts=torch.tensor([0, 1, 2], dtype=torch.int32),
            seq_lens=torch.tensor(lens, dtype=torch.int32),
            block_tables=torch.tensor(tables, dtype=torch.int32),
            block_size=4,
            key_starts=None if key_starts is None else torch.tensor(key_starts, dtype=torch.int32),
        )
        options = ops.AttentionOptions(scale=1.0, window_left=left)
        return ops.attention_backward(q, q, k_cache, k_cache, q, torch.zeros(1, 2), plan, options)[2]

    assert dv([[0, 1], [2, 3]]).all()
    for wrong in (
        {"tables": [[0, 1], [2, 1]]},
        {"tables": [[0, 1], [2, 2]]},
        {"tables": [[0], [0]], "lens": (3, 2), "key_starts": (0, 2)},
    ):
        with pytest.raises(OpArgumentError, match="slot"):
            dv(**wrong)
    assert dv([[0], [0]], (2, 2), (0, 2))[0].all()
    behind = dv([[0, 1], [0, 2]], left=3)  # block 0 is the null block, behind the windows
    assert not behind[0].any()
    assert behind[1:3].all()
    another = dv([[3, 1], [0, 3]], left=3)  # request 0's block behind its window is one that request 1 sees
    assert another[[1, 3]].all()
    assert not another[[0, 2]].any()
