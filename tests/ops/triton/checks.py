"""What is checked of Triton's kernels, whichever device they run on."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from ops.attention_bounds import Bound, assert_near
from ops.attention_problem import Built, Layout

Attend = Callable[..., None]
Differentiate = Callable[..., tuple[torch.Tensor, ...]]


def check_forward(built: Built, attend: Attend, factor: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """o within `factor` times plain torch's error at the same precision, plus 1e-5; lse within 1e-5 of its size at fp32."""
    exact_dtype = torch.float64 if built.q.dtype == torch.float32 else torch.float32
    exact_o, exact_lse = built.formula(exact_dtype)
    plain_o, plain_lse = built.formula(built.q.dtype)
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    assert_near(o, plain_o, exact_o, Bound(factor, roundings=0))
    assert torch.equal(lse == -torch.inf, exact_lse == -torch.inf)
    is_seen = exact_lse > -torch.inf
    if is_seen.any():
        allowed = factor * (plain_lse - exact_lse)[is_seen].abs().max() + 1e-5 * exact_lse[is_seen].abs().max().clamp(1)
        assert (lse - exact_lse)[is_seen].abs().max() <= allowed
    return o, lse


def check_backward(built: Built, attend: Attend, differentiate: Differentiate, repeats: int = 0) -> None:
    """Gradients within 3 times plain torch's error, plus 1e-5; slots that no row sees get 0; the same bits each time."""
    exact_dtype = torch.float64 if built.q.dtype == torch.float32 else torch.float32
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    generator = torch.Generator().manual_seed(1)
    do = torch.randn(o.shape, generator=generator).to(o.dtype).to(o.device)
    got = differentiate(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    exact, plain = built.gradients(do, exact_dtype), built.gradients(do, built.q.dtype)
    for gradient, plain_gradient, exact_gradient in zip(got, plain, exact, strict=True):
        assert_near(gradient, plain_gradient, exact_gradient, Bound(3, roundings=0))
    for _ in range(repeats):
        again = differentiate(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
        assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))


def check_huge_scores(built: Built, attend: Attend, differentiate: Differentiate) -> None:
    """Of q and k a thousand times as large, whose log-sum-exp is rounded by more than a probability can be off by: all is finite."""
    for x in (built.q, built.k_cache):
        x.mul_(1e3)
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    do = torch.ones_like(o)
    gradients = differentiate(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    assert all(x.isfinite().all() for x in (o, lse, *gradients))


def check_batch_invariance(built: Built, attend: Attend) -> tuple[torch.Tensor, torch.Tensor]:
    """A row has the same bits alone and beside others, with hints of their sizes and without, in tables of any width.

    Of options that are the same for every request."""
    plan, (want_o, want_lse) = built.plan, built.outputs()
    attend(built.q, built.k_cache, built.v_cache, plan, built.options, want_o, want_lse)
    most_rows, most_keys = max(built.problem.rows), max(built.problem.keys)
    changes = [{"max_query_rows": most_rows}, {"max_query_rows": most_rows, "max_keys": most_keys}]
    if built.problem.layout is Layout.PAGED:
        changes.append({"block_tables": torch.nn.functional.pad(plan.block_tables, (0, 9))})
    for change in changes:
        o, lse = built.outputs()
        attend(built.q, built.k_cache, built.v_cache, replace(plan, **change), built.options, o, lse)
        assert torch.equal(o, want_o)
        assert torch.equal(lse, want_lse)
    for index, (first, stop) in enumerate(pairwise(plan.query_starts.tolist())):
        if first == stop:
            continue
        alone = built.alone(index)
        for hints in ({}, {"max_query_rows": stop - first, "max_keys": built.problem.keys[index]}):
            o, lse = alone.outputs()
            attend(alone.q, built.k_cache, built.v_cache, replace(alone.plan, **hints), built.options, o, lse)
            assert torch.equal(o, want_o[first:stop]), index
            assert torch.equal(lse, want_lse[:, first:stop]), index
    return want_o, want_lse


def check_chunks(built: Built, rows: tuple[int, ...], attend: Attend) -> None:
    """One request's rows have the same bits in chunks of so many, which go to the same kernel as all of them."""
    want, _ = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, want, None)
    start, end = 0, built.problem.keys[0] - sum(rows)
    for count in rows:
        end += count
        plan = replace(
            built.plan,
            query_starts=torch.tensor([0, count], dtype=torch.int32, device=want.device),
            seq_lens=torch.tensor([end], dtype=torch.int32, device=want.device),
        )
        o = torch.empty_like(want[start : start + count])
        attend(built.q[start : start + count], built.k_cache, built.v_cache, plan, built.options, o, None)
        assert torch.equal(o, want[start : start + count])
        start += count
