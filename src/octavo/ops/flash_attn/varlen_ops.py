"""`torch.ops.octavo.flash_attn_varlen`, its backward pass, and its form that writes to `out`: requests end to end.

Legend: T rows, M keys, H query heads, K KV heads, D key size, E value size, R requests.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from octavo.ops.checks import check_apart
from octavo.ops.flash_attn.attend import Problem
from octavo.ops.flash_attn.dense_ops import refuse_second_derivative
from octavo.ops.flash_attn.plans import Ragged
from octavo.ops.flash_attn.settings import Settings


@custom_op("octavo::flash_attn_varlen", mutates_args=())
def flash_attn_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None,
    seqused_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """(T, H, E) of q's dtype, and the log-sum-exp, fp32 (H, T). q (T, H, D); k (M, K, D) or blocks of it, v likewise."""
    requests = Ragged(cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, max_seqlen_q, max_seqlen_k)
    settings = Settings(scale, window_left, window_right, softcap, dropout_p)
    out, lse = varlen_problem(q, k, v, requests, alibi_slopes, seed, settings).forward(q)
    return out, lse


@flash_attn_varlen.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    num_rows, num_heads, _ = q.shape
    return q.new_empty(num_rows, num_heads, v.shape[-1]), q.new_empty(num_heads, num_rows, dtype=torch.float32)


@custom_op("octavo::flash_attn_varlen_out", mutates_args=("out",))
def flash_attn_varlen_out(
    out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None,
    seqused_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
) -> Tensor:
    """Writes to `out` what `flash_attn_varlen` returns, and returns the log-sum-exp."""
    check_apart("out", out, q=q, k=k, v=v)
    requests = Ragged(cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, max_seqlen_q, max_seqlen_k)
    settings = Settings(scale, window_left, window_right, softcap, 0.0)
    return varlen_problem(q, k, v, requests, alibi_slopes, None, settings).forward(q, out).lse


@flash_attn_varlen_out.register_fake
def _(out: Tensor, q: Tensor, *others: Any) -> Tensor:
    return q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)


@custom_op("octavo::flash_attn_varlen_backward", mutates_args=())
def flash_attn_varlen_backward(
    dout: Tensor,
    dlse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    seqused_k: Tensor | None,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv, contiguous; rows and keys of no request get 0."""
    requests = Ragged(cu_seqlens_q, cu_seqlens_k, seqused_k, None, max_seqlen_q, max_seqlen_k)
    settings = Settings(scale, window_left, window_right, softcap, dropout_p)
    problem = varlen_problem(q, k, v, requests, alibi_slopes, seed, settings)
    dq, dk, dv = problem.backward(dout, dlse, q, out, lse)
    return dq, dk.view(k.shape), dv.view(v.shape)


@flash_attn_varlen_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def varlen_problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    requests: Ragged,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    settings: Settings,
) -> Problem:
    """Without a block table, all keys are one block, and each request has a part of it."""
    plan = requests.plan(q.shape[0], k)
    is_paged = requests.block_table is not None
    k_cache, v_cache = (k, v) if is_paged else (k[None], v[None])
    return Problem(
        k_cache=k_cache,
        v_cache=v_cache,
        plan=plan,
        options=settings.options(alibi_slopes, seed),
        num_rows=0 if plan is None else plan.num_rows,
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    q, k, v, cu_seqlens_q, cu_seqlens_k, seqused_k, _, alibi_slopes, seed, *numbers = inputs
    ctx.numbers = numbers
    ctx.save_for_backward(q, k, v, *output, cu_seqlens_q, cu_seqlens_k, seqused_k, alibi_slopes, seed)


def _backward(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, *others = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(out)
    gradients = flash_attn_varlen_backward(dout, dlse, q, k, v, out, *others, *ctx.numbers)
    return *gradients, *(None,) * (6 + len(ctx.numbers))


flash_attn_varlen.register_autograd(_backward, setup_context=_save)
flash_attn_varlen_backward.register_autograd(refuse_second_derivative)
