"""Legend: H query heads, N rows, M keys, E value size."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.attention_problem import CAUSAL, Layout, Problem, head_slopes, problems, request_slopes, sinks
from ops.triton.checks import check_backward, check_huge_scores

from octavo.ops import Dropout, reference
from octavo.ops.reference.philox import keep_mask
from octavo.ops.triton import kernels
from octavo.ops.triton.launch_table import Tiles

OPTIONS = {
    "full": {},
    "causal": CAUSAL,
    "local": {"window_left": 20, "window_right": 5},
    "left": {"window_left": 33},
    "left by one": {"window_left": 1},  # a tile's last key is seen last by the first row of another
    "right": {"window_right": 7},
    "softcap": {"softcap": 2.0, "window_right": 0},
    "alibi": {"alibi_slopes": head_slopes},
    "bias": {"bias": lambda p, randn: randn(len(p.rows), 1, max(p.rows), max(p.keys))},
    "sinks": {"sinks": sinks},
    "dropout": {"dropout": Dropout(probability=0.3, seed=2**40 + 5)},
    "negative": {"scale": -0.3, "window_right": 0},
    "all": {
        "window_left": 40,
        "window_right": 3,
        "softcap": 3.0,
        "alibi_slopes": request_slopes,
        "bias": lambda p, randn: randn(1, p.num_heads, max(p.rows), max(p.keys)),
        "dropout": Dropout(probability=0.1, seed=3),
    },
}
MIXED = {"requests": ((90, 90), (0, 4), (9, 0), (5, 3)), "num_kv_heads": 1}


def attend(q, k_cache, v_cache, plan, options, o, lse):
    kernels.paged_attention(q, k_cache, v_cache, plan, options, o, lse)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr("octavo.ops.triton.forward.forward_tiles", lambda *sizes: Tiles(64, 32, 4, 1))
    monkeypatch.setattr("octavo.ops.triton.forward.split_tiles", lambda *sizes: Tiles(16, 32, 4, 1))
    monkeypatch.setattr("octavo.ops.triton.backward.query_gradient_tiles", lambda *sizes: Tiles(64, 32, 4, 1))
    monkeypatch.setattr("octavo.ops.triton.backward.key_gradient_tiles", lambda *sizes: Tiles(32, 64, 4, 1))


def check(**changes):
    check_backward(Problem(**{**MIXED, **changes}).build(), attend, kernels.attention_backward)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options):
    check(options=options, layout=Layout.VARLEN)


@pytest.mark.parametrize("name", ["causal", "local", "softcap", "dropout"])
def test_options_in_fp16(name):
    check(options=OPTIONS[name], layout=Layout.VARLEN, dtype=torch.float16, key_size=40, value_size=24)


@pytest.mark.parametrize(
    ("layout", "heads"),
    [(Layout.DENSE, (2, 1)), (Layout.PAGED, (1, 3)), (Layout.PAGED, (2, 2))],
    ids=["dense-MHA", "paged-MQA", "paged-GQA"],
)
def test_layouts_and_groups(layout, heads):
    check(layout=layout, num_kv_heads=heads[0], group=heads[1], options=CAUSAL)


@pytest.mark.parametrize("sizes", [(1, 1), (7, 59), (80, 80), (128, 64), (300, 40)], ids=str)
def test_head_sizes(sizes):
    check(requests=((20, 37),), key_size=sizes[0], value_size=sizes[1], scale=sizes[0] ** -0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_huge_scores(dtype):
    case = Problem(requests=((90, 90),), num_kv_heads=1, scale=1e4, dtype=dtype, options=CAUSAL)
    check_huge_scores(case.build(), attend, kernels.attention_backward)


def test_nothing_to_do():
    for requests in ((), ((0, 5),), ((5, 0),)):
        check(requests=requests, layout=Layout.VARLEN)


def test_rows_of_no_request():
    """As there may be on a GPU, where the plan's values are not looked at."""
    built = Problem(**MIXED, options=CAUSAL).build()
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    do = torch.randn(o.shape, generator=torch.Generator().manual_seed(0))
    want = kernels.attention_backward(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    longer_do, longer_q, longer_o = (torch.cat((x, torch.ones_like(x[:20]))) for x in (do, built.q, o))
    longer_lse = torch.cat((lse, torch.full_like(lse[:, :20], -torch.inf)), 1)
    got_o, got_lse = longer_o.clone(), longer_lse.clone()
    attend(longer_q, built.k_cache, built.v_cache, built.plan, built.options, got_o, got_lse)
    assert torch.equal(got_o, longer_o)
    assert torch.equal(got_lse, longer_lse)
    dq, dk, dv = kernels.attention_backward(
        longer_do, longer_q, built.k_cache, built.v_cache, longer_o, longer_lse, built.plan, built.options
    )
    assert torch.equal(dq[:-20], want[0])
    assert not dq[-20:].any()
    assert torch.equal(dk, want[1])
    assert torch.equal(dv, want[2])


def test_the_gradient_of_the_log_sum_exp():
    """∂lse/∂s = p: with dO = 0, dQ = scale·(p ∘ dLSE)·K."""
    built = Problem(**MIXED, options={"window_left": 30, "window_right": 0}, layout=Layout.VARLEN).build()
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    generator = torch.Generator().manual_seed(0)
    do, dlse = torch.randn(o.shape, generator=generator), torch.randn(lse.shape, generator=generator)
    arguments = (do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    want = reference.attention_backward(*arguments, dlse_HT=dlse)
    for got, wanted in zip(kernels.attention_backward(*arguments, dlse), want, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_strided_tensors():
    built = Problem(**MIXED, options=CAUSAL).build()
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    do = torch.randn(o.shape, generator=torch.Generator().manual_seed(0))
    want = kernels.attention_backward(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    transposed = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in (do, built.q, o)]
    head_major = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (built.k_cache, built.v_cache)]
    got = kernels.attention_backward(
        transposed[0], transposed[1], *head_major, transposed[2], lse.T.contiguous().T, built.plan, built.options
    )
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 + 2**33 + 7, -12345])
def test_dropout_drops_what_the_reference_drops(seed):
    """With V the identity o is P ∘ Z, and with dO the identity dV is its transpose."""
    num_rows, num_keys, num_heads = 20, 50, 2
    dropout = Dropout(probability=0.4, seed=seed)
    built = Problem(
        requests=((2, 1), (num_rows, num_keys)), num_kv_heads=num_heads, group=1, value_size=num_keys,
        layout=Layout.DENSE, options={"dropout": dropout},
    ).build()  # fmt: skip
    block = int(built.plan.block_tables[1, 0])
    built.v_cache[block] = torch.eye(num_keys)[:, None, :]
    o, lse = built.outputs()
    attend(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse)
    kept = keep_mask(dropout, 1, torch.arange(num_heads), torch.arange(num_rows), torch.arange(num_keys))
    assert torch.equal(o[2:].transpose(0, 1) != 0, kept)
    do = torch.zeros_like(o)
    do[2:] = torch.eye(num_rows, num_keys)[:, None, :]
    _, _, dv = kernels.attention_backward(do, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options)
    assert torch.equal(dv[block].permute(1, 2, 0)[:, :num_rows] != 0, kept)


@settings(max_examples=8)
@given(problem=problems(50), dtype=st.sampled_from([torch.float32, torch.float16]))
def test_any_problem(problem, dtype):
    check_backward(replace(problem, dtype=dtype).build(), attend, kernels.attention_backward)
