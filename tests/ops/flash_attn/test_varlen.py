"""Legend: T rows, M keys, H query heads, K KV heads, D key size, E value size, R requests."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.attention_bounds import FORWARD, GRADIENTS, assert_lse_near, assert_near
from ops.flash_attn.formula import Options, attention, gradients, randn

from octavo.ops import (
    flash_attn_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)

SLOPES = torch.tensor([0.3, 0.05, 0.2, 0.4])


def starts(lens, dtype=torch.int32):
    return torch.tensor([0, *lens]).cumsum(0).to(dtype)


def ragged_attention(q, k, v, row_lens, key_lens, options, key_firsts=None):
    """The formula, request by request; rows of none are 0, and −∞."""
    key_firsts = starts(key_lens).tolist() if key_firsts is None else key_firsts
    out = q.new_zeros(*q.shape[:2], v.shape[-1])
    lse = q.new_full((q.shape[1], q.shape[0]), -torch.inf)
    row = 0
    for i, (num_rows, num_keys, first) in enumerate(zip(row_lens, key_lens, key_firsts, strict=False)):
        rows, keys = slice(row, row + num_rows), slice(first, first + num_keys)
        if num_rows and num_keys:
            one = attention(q[rows], k[keys], v[keys], options.of_request(i))
            out, lse = out.clone(), lse.clone()
            out[rows], lse[:, rows] = one.out, one.lse
        row += num_rows
    return out, lse


def check(row_lens, key_lens, dtype, options, spare=(0, 0), used=None, num_kv_heads=2, sizes=(24, 16)):
    """With `spare` rows and keys that belong to nobody, and `used` of each request's keys."""
    q = randn(sum(row_lens) + spare[0], 4, sizes[0], seed=1, dtype=dtype).requires_grad_()
    k = randn(sum(key_lens) + spare[1], num_kv_heads, sizes[0], seed=2, dtype=dtype).requires_grad_()
    v = randn(sum(key_lens) + spare[1], num_kv_heads, sizes[1], seed=3, dtype=dtype).requires_grad_()
    exact_inputs = [x.detach().double().requires_grad_() for x in (q, k, v)]
    got = flash_attn_varlen_func(
        q,
        k,
        v,
        starts(row_lens),
        starts(key_lens, torch.int64),
        max(row_lens, default=0),
        max(key_lens, default=0),
        **options.arguments,
        seqused_k=None if used is None else torch.tensor(used, dtype=torch.int32),
        return_softmax_lse=True,
    )
    firsts = starts(key_lens).tolist()
    same, _ = ragged_attention(q, k, v, row_lens, used or key_lens, options, firsts)
    exact, exact_lse = ragged_attention(*exact_inputs, row_lens, used or key_lens, options, firsts)
    assert_near(got.out, same, exact, FORWARD)
    assert_lse_near(got.softmax_lse, exact_lse, dtype)
    do = randn(*got.out.shape, seed=4, dtype=dtype)
    ours = gradients(got.out, do, (q, k, v))
    if same.requires_grad:
        others = gradients(same, do, (q, k, v)), gradients(exact, do, exact_inputs)
        for each in zip(ours, *others, strict=True):
            assert_near(*each, GRADIENTS)
    else:
        assert not any(x.any() for x in ours)
    if spare[0]:
        assert not got.out[-spare[0] :].any()
        assert not ours[0][-spare[0] :].any()
    if spare[1]:
        assert not ours[1][-spare[1] :].any()


CASES = [
    ((5, 0, 33, 1), (9, 4, 70, 0), torch.float32, Options(causal=True)),
    ((5, 0, 33, 1), (9, 4, 70, 0), torch.bfloat16, Options(window_size=(8, 3))),
    ((17, 3), (17, 3), torch.float16, Options(softcap=2.0)),
    ((4, 20), (30, 6), torch.float32, Options(alibi_slopes=torch.stack((SLOPES, -SLOPES)), causal=True)),
    ((70,), (70,), torch.bfloat16, Options(causal=True, alibi_slopes=SLOPES)),
    ((0, 0), (5, 0), torch.float32, Options()),
    ((3, 2), (0, 0), torch.float32, Options()),
    ((), (), torch.float32, Options()),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_semantics(case, attention_backend):
    check(*case)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_rows_and_keys_of_nobody(case):
    check(*case, spare=(3, 5))


def test_only_some_of_the_keys_are_used(attention_backend):
    check((5, 2, 9), (20, 6, 30), torch.float32, Options(causal=True), used=(11, 6, 0), spare=(0, 4))


def with_enough(lens):
    """Another request, for the error of PyTorch not to be luck."""
    return [*lens, (24, 24)]


@settings(max_examples=40)
@given(
    lens=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 80)), max_size=5).map(with_enough),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    causal=st.booleans(),
    left=st.just(-1) | st.integers(1, 60),
    right=st.integers(-1, 60),
    num_kv_heads=st.sampled_from([1, 2, 4]),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_lengths(lens, dtype, causal, left, right, num_kv_heads, sizes):
    options = Options(causal=causal, window_size=(left, right))
    check([a for a, _ in lens], [b for _, b in lens], dtype, options, num_kv_heads=num_kv_heads, sizes=sizes)


def test_requests_have_the_bits_that_each_has_alone(attention_backend):
    row_lens, key_lens = (20, 1, 33), (20, 50, 80)
    q, k, v = (randn(sum(lens), 4, 16, seed=i) for i, lens in enumerate((row_lens, key_lens, key_lens)))
    row_starts, key_starts = starts(row_lens), starts(key_lens)
    options = {"causal": True, "window_size": (40, 0)}
    got = flash_attn_varlen_func(q, k, v, row_starts, key_starts, 33, 80, **options, return_softmax_lse=True)
    for i in range(3):
        rows, keys = slice(*row_starts[i : i + 2]), slice(*key_starts[i : i + 2])
        alone = flash_attn_func(q[None, rows], k[None, keys], v[None, keys], **options, return_attn_probs=True)
        assert torch.equal(alone.out[0], got.out[rows])
        assert torch.equal(alone.softmax_lse[0], got.softmax_lse[:, rows])


@pytest.mark.parametrize("block_size", [1, 8, 16, 256])
@pytest.mark.parametrize("lengths", ["cu_seqlens_k", "seqused_k", "both"])
def test_blocks_give_the_bits_of_keys_end_to_end(block_size, lengths, attention_backend):
    row_lens, key_lens = (20, 1, 5, 0), (20, 50, 0, 3)
    q, k, v = (randn(sum(lens), 4, 16, seed=i) for i, lens in enumerate((row_lens, key_lens, key_lens)))
    want = flash_attn_varlen_func(
        q, k, v, starts(row_lens), starts(key_lens), 20, 50, causal=True, return_softmax_lse=True
    )
    counts = [-(-n // block_size) for n in key_lens]
    order = torch.randperm(sum(counts) + 2, generator=torch.Generator().manual_seed(0))
    k_cache, v_cache = (torch.full((len(order), block_size, 4, 16), torch.nan) for _ in range(2))
    table = torch.full((4, max(counts) + 1), -7, dtype=torch.int32)  # what is not used may be anything
    table[:, -1] = 2**31 - 1
    first, taken = 0, 0
    for i, (num_keys, count) in enumerate(zip(key_lens, counts, strict=True)):
        table[i, :count] = order[taken : taken + count]
        for j in range(num_keys):
            block = table[i, j // block_size]
            k_cache[block, j % block_size], v_cache[block, j % block_size] = k[first + j], v[first + j]
        first, taken = first + num_keys, taken + count
    arguments = {
        "cu_seqlens_k": starts([n + 1 for n in key_lens] if lengths == "both" else key_lens),
        "seqused_k": torch.tensor(key_lens, dtype=torch.int32),
    }
    if lengths != "both":
        arguments = {"cu_seqlens_k": None, lengths: arguments[lengths]}
    got = flash_attn_varlen_func(
        q,
        k_cache,
        v_cache,
        starts(row_lens),
        max_seqlen_q=20,
        max_seqlen_k=51,
        causal=True,
        block_table=table,
        return_softmax_lse=True,
        **arguments,
    )
    assert torch.equal(got.out, want.out)
    assert torch.equal(got.softmax_lse, want.softmax_lse)


def test_a_result_that_is_given(attention_backend):
    q, k, v = randn(9, 4, 16, seed=0), randn(12, 2, 16, seed=1), randn(12, 2, 8, seed=2)
    arguments = (q, k, v, starts((4, 3)), starts((5, 6)), 4, 6)
    want = flash_attn_varlen_func(*arguments, return_softmax_lse=True)
    for out in (torch.full((9, 4, 8), torch.nan), torch.full((9, 8, 4), torch.nan).transpose(1, 2)):
        got = flash_attn_varlen_func(*arguments, out=out, return_softmax_lse=True)
        assert got.out is out
        assert torch.equal(out, want.out)
        assert torch.equal(got.softmax_lse, want.softmax_lse)
    assert flash_attn_varlen_func(*arguments, out=out) is out


def test_packed_forms_give_the_same_bits():
    qkv = randn(24, 3, 4, 20, seed=0, dtype=torch.bfloat16).requires_grad_()
    do = randn(24, 4, 20, seed=1, dtype=torch.bfloat16)
    cu_seqlens, options = starts((11, 0, 13)), {"causal": True, "alibi_slopes": SLOPES}
    want = flash_attn_varlen_func(*qkv.unbind(1), cu_seqlens, cu_seqlens, 13, 13, **options)
    (want_grad,) = gradients(want, do, [qkv])
    for got in (
        flash_attn_varlen_qkvpacked_func(qkv, cu_seqlens, 13, **options),
        flash_attn_varlen_kvpacked_func(qkv[:, 0], qkv[:, 1:], cu_seqlens, cu_seqlens, 13, 13, **options),
    ):
        assert torch.equal(got, want)
        assert torch.equal(gradients(got, do, [qkv])[0], want_grad)


def test_strided_rows_and_keys(attention_backend):
    q, k, v = randn(4, 16, 13, seed=0), randn(2, 16, 20, seed=1), randn(2, 16, 20, seed=2)
    dense = [x.permute(2, 0, 1).contiguous() for x in (q, k, v)]
    strided = [x.permute(2, 0, 1) for x in (q, k, v)]
    lengths = (starts((6, 7)), starts((9, 11)), 7, 11)
    assert torch.equal(
        flash_attn_varlen_func(*strided, *lengths, causal=True), flash_attn_varlen_func(*dense, *lengths, causal=True)
    )
