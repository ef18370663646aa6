"""The functions as operators of torch: fake tensors, torch.compile, autograd."""

import pytest
import torch
from ops.flash_attn.formula import gradients, randn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from octavo.ops import (
    OpArgumentError,
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)
from octavo.ops.flash_attn.rotary import apply_rotary_emb

SCALARS = (0.25, 9, 0, 2.0)
ROWS, KEYS = torch.tensor([0, 3, 3, 8]), torch.tensor([0, 5, 6, 12], dtype=torch.int32)


def dense(dtype=torch.float32):
    q, k, v = randn(2, 5, 4, 8, seed=0), randn(2, 7, 2, 8, seed=1), randn(2, 7, 2, 6, seed=2)
    return [x.to(dtype).requires_grad_() for x in (q, k, v)]


def ragged():
    q, k, v = randn(10, 4, 8, seed=0), randn(13, 2, 8, seed=1), randn(13, 2, 6, seed=2)
    return [x.requires_grad_() for x in (q, k, v)]


def constants(tensors):
    return [x.detach() for x in tensors]


def caches():
    return torch.zeros(6, 4, 2, 8), torch.zeros(6, 4, 2, 6)


TABLE = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32)
LENGTHS = torch.tensor([2, 6], dtype=torch.int32)


def calls():
    ops = torch.ops.octavo
    seed, slopes = torch.tensor(7), randn(4, seed=3).abs()
    q, k, v = dense()
    out, lse = ops.flash_attn(q, k, v, slopes, seed, *SCALARS, 0.2)
    varlen = ragged()
    lengths = (ROWS, KEYS, torch.tensor([4, 1, 6]), None)
    out_varlen, lse_varlen = ops.flash_attn_varlen(*varlen, *lengths, slopes, seed, 5, 6, *SCALARS, 0.2)
    backward = out.detach(), lse.detach(), *constants((q, k, v)), out.detach(), lse.detach(), slopes, seed
    backward_varlen = (
        out_varlen.detach(),
        None,
        *constants(varlen),
        out_varlen.detach(),
        lse_varlen.detach(),
        *lengths[:3],
        slopes,
        seed,
    )
    new = randn(2, 3, 2, 8, seed=5), randn(2, 3, 2, 6, seed=6)
    tables = randn(20, 4, seed=7), randn(20, 4, seed=8)
    where = LENGTHS, 6, None, None, TABLE, slopes, None, None
    probabilities = *constants((q, k)), lse.detach(), slopes, seed
    probabilities_varlen = *constants(varlen[:2]), lse_varlen.detach(), *lengths, slopes, seed, 5, 6
    return {
        "flash_attn": (ops.flash_attn, (q, k, v, slopes, seed, *SCALARS, 0.2)),
        "flash_attn plain": (ops.flash_attn, (q, k, v, None, None, 1.0, None, None, 0.0, 0.0)),
        "backward": (ops.flash_attn_backward, (*backward, *SCALARS, 0.2)),
        "varlen": (ops.flash_attn_varlen, (*varlen, *lengths, slopes, seed, 5, 6, *SCALARS, 0.2)),
        "varlen backward": (ops.flash_attn_varlen_backward, (*backward_varlen, 5, 6, *SCALARS, 0.2)),
        "varlen out": (
            ops.flash_attn_varlen_out,
            (torch.empty(10, 4, 6), *constants(varlen), *lengths, slopes, 5, 6, *SCALARS),
        ),
        "kvcache": (ops.flash_attn_kvcache, (q.detach(), *caches(), *where, *SCALARS)),
        "append": (ops.flash_attn_append_kvcache, (q.detach(), *caches(), *new, *tables, *where, *SCALARS, True)),
        "probabilities": (ops.flash_attn_probabilities, (*probabilities, *SCALARS, 0.2)),
        "varlen probabilities": (ops.flash_attn_varlen_probabilities, (*probabilities_varlen, *SCALARS, 0.2)),
    }


@pytest.mark.parametrize("name", calls())
def test_opcheck(name):
    operator, arguments = calls()[name]
    opcheck(operator, arguments)


@pytest.mark.parametrize("options", [{"causal": True, "softcap": 2.0}, {"window_size": (2, 1), "dropout_p": 0.3}])
@pytest.mark.filterwarnings("ignore:Input #")  # gradcheck would like fp64
def test_gradcheck(options):
    q, k, v = (randn(1, n, h, 3, seed=h + n).requires_grad_() for n, h in ((3, 2), (4, 1), (4, 1)))

    def function(q, k, v):
        torch.manual_seed(0)
        out, lse, _ = flash_attn_func(q, k, v, return_attn_probs=True, **options)
        return out, lse.clamp(min=-10)

    assert torch.autograd.gradcheck(function, (q, k, v), eps=1e-2, atol=2e-2, rtol=2e-2)

    def varlen(q, k, v):
        torch.manual_seed(0)
        lengths = torch.tensor([0, 1, 3]), torch.tensor([0, 2, 4]), 2, 2
        return flash_attn_varlen_func(q[0], k[0], v[0], *lengths, **options)

    assert torch.autograd.gradcheck(varlen, (q, k, v), eps=1e-2, atol=2e-2, rtol=2e-2)


def test_a_second_derivative_is_refused():
    q, k, v = dense()
    (grad,) = torch.autograd.grad(flash_attn_func(q, k, v).sum(), [q], create_graph=True)
    with pytest.raises(OpArgumentError, match="first derivatives"):
        grad.sum().backward()
    q, k, v = ragged()
    out = flash_attn_varlen_func(q, k, v, ROWS, KEYS, 5, 6)
    (grad,) = torch.autograd.grad(out.square().sum(), [v], create_graph=True)
    with pytest.raises(OpArgumentError, match="first derivatives"):
        grad.sum().backward()


def functions():
    """Name → (function of tensors, its tensors)."""
    slopes = torch.tensor([0.3, 0.05, 0.2, 0.4])
    qkv = randn(2, 6, 3, 4, 8, seed=0).requires_grad_()
    q, k, v = ragged()
    return {
        "dense": (
            lambda q, k, v: flash_attn_func(q, k, v, causal=True, softcap=2.0, return_attn_probs=True)[:2],
            dense(),
        ),
        "dropout": (lambda q, k, v: flash_attn_func(q, k, v, 0.3, return_attn_probs=True), dense()),
        "qkvpacked": (lambda qkv: flash_attn_qkvpacked_func(qkv, window_size=(3, 1)), [qkv]),
        "kvpacked": (
            lambda qkv: flash_attn_kvpacked_func(qkv[:, :, 0], qkv[:, :, 1:], alibi_slopes=slopes),
            [qkv],
        ),
        "varlen": (
            lambda q, k, v: flash_attn_varlen_func(q, k, v, ROWS, KEYS, 5, 6, causal=True, return_softmax_lse=True),
            [q, k, v],
        ),
        "varlen dropout": (
            lambda q, k, v: flash_attn_varlen_func(q, k, v, ROWS, KEYS, 5, 6, 0.3, return_attn_probs=True),
            [q, k, v],
        ),
        "varlen qkvpacked": (lambda qkv: flash_attn_varlen_qkvpacked_func(qkv[0], torch.tensor([0, 2, 6]), 4), [qkv]),
        "varlen kvpacked": (
            lambda qkv: flash_attn_varlen_kvpacked_func(
                qkv[0, :, 0], qkv[0, :, 1:], torch.tensor([0, 2, 6]), torch.tensor([0, 1, 6]), 4, 5
            ),
            [qkv],
        ),
    }


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", functions())
def test_compiled_whole(name, dynamic):
    function, inputs = functions()[name]
    check_compiled(function, inputs, backend="aot_eager", dynamic=dynamic)


def test_compiled_by_inductor():
    check_compiled(lambda q, k, v: flash_attn_func(q, k, v, causal=True), dense(torch.bfloat16), backend="inductor")


def check_compiled(function, inputs, **options):
    def run(function):
        torch.manual_seed(3)
        results = function(*inputs)
        results = (results,) if isinstance(results, torch.Tensor) else tuple(results)
        out = results[0]
        return [*results, *gradients(out, torch.linspace(-1, 1, out.numel()).view(out.shape), inputs)]

    torch._dynamo.reset()
    want = run(function)
    got = run(torch.compile(function, fullgraph=True, **options))
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


def test_a_cache_grows_in_a_compiled_step():
    def step(q, k, v, k_cache, v_cache, lengths):
        return flash_attn_with_kvcache(
            q, k_cache, v_cache, k, v, cache_seqlens=lengths, block_table=TABLE, causal=True, return_softmax_lse=True
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    plain_caches, compiled_caches = caches(), caches()
    for i in range(2):
        q, k, v = constants(randn(2, 3, h, n, seed=10 * i + n) for h, n in ((4, 8), (2, 8), (2, 6)))
        lengths = LENGTHS + 3 * i
        want, got = step(q, k, v, *plain_caches, lengths), compiled(q, k, v, *compiled_caches, lengths)
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])
    for a, b in zip(plain_caches, compiled_caches, strict=True):
        assert torch.equal(a, b)
        assert a.any()


def test_a_given_result_in_a_compiled_call():
    q, k, v = constants(ragged())

    def call(out):
        return flash_attn_varlen_func(q, k, v, ROWS, KEYS, 5, 6, out=out, return_softmax_lse=True).softmax_lse

    torch._dynamo.reset()
    plain, compiled = torch.empty(10, 4, 6), torch.empty(10, 4, 6)
    want = call(plain)
    assert torch.equal(torch.compile(call, fullgraph=True, backend="aot_eager")(compiled), want)
    assert torch.equal(plain, compiled)


def test_fake_tensors_have_the_shapes_and_strides():
    real = constants(dense())
    want = flash_attn_func(*real, causal=True, return_attn_probs=True)
    want_varlen = flash_attn_varlen_func(*constants(ragged()), ROWS, KEYS, 5, 6, return_softmax_lse=True)
    cache = torch.zeros(2, 9, 2, 8)
    want_kvcache = flash_attn_with_kvcache(real[0], cache, cache, return_softmax_lse=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in real]
        got = flash_attn_func(*fake, causal=True, return_attn_probs=True)
        fake = [mode.from_tensor(x) for x in constants(ragged())]
        got_varlen = flash_attn_varlen_func(*fake, ROWS, KEYS, 5, 6, return_softmax_lse=True)
        fake_cache = mode.from_tensor(cache)
        got_kvcache = flash_attn_with_kvcache(
            mode.from_tensor(real[0]), fake_cache, fake_cache, return_softmax_lse=True
        )
    for a, b in zip((*got, *got_varlen, *got_kvcache), (*want, *want_varlen, *want_kvcache), strict=True):
        assert a.shape == b.shape
        assert a.stride() == b.stride()
        assert a.dtype == b.dtype


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_no_query_heads(dropout_p, attention_backend):
    q, k, v = (randn(2, 5, h, n, seed=n).requires_grad_() for h, n in ((0, 8), (2, 8), (2, 6)))
    got = flash_attn_func(q, k, v, dropout_p, return_attn_probs=True)
    assert got.out.shape == (2, 5, 0, 6)
    assert got.softmax_lse.shape == (2, 0, 5)
    for x, grad in zip((q, k, v), gradients(got.out, got.out.detach(), (q, k, v)), strict=True):
        assert grad.shape == x.shape
        assert not grad.any()
    ragged_q, ragged_k, ragged_v = (x[0].detach() for x in (q, k, v))
    lens = torch.tensor([0, 2, 5])
    assert flash_attn_varlen_func(ragged_q, ragged_k, ragged_v, lens, lens, 3, 3).shape == (5, 0, 6)


def counting_graphs():
    """A backend of torch.compile, and the list of what it compiled."""
    graphs = []

    def compile_graph(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return compile_graph, graphs


def test_lengths_are_not_compiled_one_by_one():
    """A number of 13 values is compiled for itself once, and then for any."""

    def varlen(q, k, lens, longest):
        return flash_attn_varlen_func(q, k, k, lens, lens, longest, longest, causal=True)

    def kvcache(q, cache, length):
        return flash_attn_with_kvcache(q, cache, cache, cache_seqlens=length, window_size=(length, 0))

    def rotary(x, angles, offset):
        return apply_rotary_emb(x, angles, angles, seqlen_offsets=offset)

    q, k, cache, angles = (
        randn(9, 4, 8, seed=0),
        randn(9, 2, 8, seed=1),
        randn(2, 30, 2, 8, seed=2),
        randn(30, 4, seed=3),
    )
    lens, rows = torch.tensor([0, 5, 9]), randn(2, 3, 4, 8, seed=4)
    for function, arguments in ((varlen, (q, k, lens)), (kvcache, (rows, cache)), (rotary, (rows, angles))):
        torch._dynamo.reset()
        backend, graphs = counting_graphs()
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        for length in range(5, 18):
            assert torch.equal(compiled(*arguments, length), function(*arguments, length))
        assert len(graphs) <= 2, function
