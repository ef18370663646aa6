"""`torch.ops.octavo.flash_attn` and its backward pass: a batch whose requests are all of one length.

Legend: B batch, S rows, M keys, H query heads, K KV heads, D key size, E value size; T = B·S.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn.attend import Problem
from octavo.ops.flash_attn.plans import dense_plan
from octavo.ops.flash_attn.settings import Settings


@custom_op("octavo::flash_attn", mutates_args=())
def flash_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """(B, S, H, E) of q's dtype, and the log-sum-exp, fp32 (H, B·S). q (B, S, H, D), k (B, M, K, D), v (B, M, K, E)."""
    problem = dense_problem(q, k, v, alibi_slopes, seed, Settings(scale, window_left, window_right, softcap, dropout_p))
    out, lse = problem.forward(q.flatten(0, 1))
    return out.unflatten(0, q.shape[:2]), lse


@flash_attn.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    num_requests, num_rows, num_heads, _ = q.shape
    out = q.new_empty(num_requests, num_rows, num_heads, v.shape[-1])
    return out, q.new_empty(num_heads, num_requests * num_rows, dtype=torch.float32)


@custom_op("octavo::flash_attn_backward", mutates_args=())
def flash_attn_backward(
    dout: Tensor,
    dlse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    scale: float,
    window_left: int | None,
    window_right: int | None,
    softcap: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv, contiguous."""
    problem = dense_problem(q, k, v, alibi_slopes, seed, Settings(scale, window_left, window_right, softcap, dropout_p))
    dq, dk, dv = problem.backward(dout.flatten(0, 1), dlse, q.flatten(0, 1), out.flatten(0, 1), lse)
    return dq.unflatten(0, q.shape[:2]), dk, dv


@flash_attn_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def dense_problem(
    q: Tensor, k: Tensor, v: Tensor, alibi_slopes: Tensor | None, seed: Tensor | None, settings: Settings
) -> Problem:
    """Keys of one request are one block."""
    num_requests, num_rows, _, _ = q.shape
    is_empty = num_requests == 0 or k.shape[1] == 0
    return Problem(
        k_cache=k,
        v_cache=v,
        plan=None if is_empty else dense_plan(num_requests, num_rows, k.shape[1], q.device),
        options=settings.options(alibi_slopes, seed),
        num_rows=num_requests * num_rows,
    )


def refuse_second_derivative(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
    raise OpArgumentError(
        "create_graph: attention's backward pass was asked for its own gradient; allowed first derivatives; compute "
        "torch.softmax(q·kᵀ)·v in PyTorch for second ones",
        param="create_graph",
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    q, k, v, alibi_slopes, seed, *settings = inputs
    ctx.settings = settings
    ctx.save_for_backward(q, k, v, *output, alibi_slopes, seed)


def _backward(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, alibi_slopes, seed = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(out)
    gradients = flash_attn_backward(dout, dlse, q, k, v, out, lse, alibi_slopes, seed, *ctx.settings)
    return *gradients, None, None, *(None,) * len(ctx.settings)


flash_attn.register_autograd(_backward, setup_context=_save)
flash_attn_backward.register_autograd(refuse_second_derivative)
