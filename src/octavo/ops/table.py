"""The dispatch table: each op and its kernels, best first. It is made once, at import, and never changes."""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from octavo.ops import reference
from octavo.ops.dispatch import ALLOWS_TRITON, NATIVE, Kernel, Op
from octavo.ops.triton import attention as triton_attention

if NATIVE is not None:
    from octavo.ops.cpu import activations, attention, elementwise, linear, logits, norms, rotary

P = ParamSpec("P")
R = TypeVar("R")


def _op(
    run_reference: Callable[P, R],
    cpu: Callable[[], Kernel[P, R]],
    triton: Kernel[P, R] | None = None,
) -> Op[P, R]:
    """`cpu` is called only where the native module is."""
    kernels = [Kernel("reference", _always, run_reference)]
    if triton is not None and ALLOWS_TRITON:
        kernels.insert(0, triton)
    if NATIVE is not None:
        kernels.insert(0, cpu())
    return Op(tuple(kernels))


def _always(*args: object, **kwargs: object) -> bool:
    return True


PACK_WEIGHT: Final = _op(reference.pack_weight, lambda: Kernel("cpu", linear.can_pack_weight, linear.pack_weight))
PACK_STACKED: Final = _op(reference.pack_stacked, lambda: Kernel("cpu", linear.can_pack_stacked, linear.pack_stacked))
DEQUANTIZE: Final = _op(reference.dequantize, lambda: Kernel("cpu", linear.can_dequantize, linear.dequantize))
LINEAR: Final = _op(reference.linear, lambda: Kernel("cpu", linear.can_linear, linear.linear))
ROUND_BF16: Final = _op(reference.round_bf16, lambda: Kernel("cpu", linear.can_round_bf16, linear.round_bf16))
LINEAR_BF16: Final = _op(reference.linear_bf16, lambda: Kernel("cpu", linear.can_linear_bf16, linear.linear_bf16))
QUANTIZE_ACTIVATIONS: Final = _op(
    reference.quantize_activations, lambda: Kernel("cpu", linear.can_quantize_activations, linear.quantize_activations)
)
LINEAR_INT8: Final = _op(reference.linear_int8, lambda: Kernel("cpu", linear.can_linear_int8, linear.linear_int8))
QUANTIZE_WEIGHT: Final = _op(
    reference.quantize_weight, lambda: Kernel("cpu", linear.can_quantize_weight, linear.quantize_weight)
)
QUANTIZE_ROWS: Final = _op(
    reference.quantize_rows, lambda: Kernel("cpu", linear.can_quantize_rows, linear.quantize_rows)
)
LINEAR_I8: Final = _op(reference.linear_i8, lambda: Kernel("cpu", linear.can_linear_i8, linear.linear_i8))
EMBEDDING: Final = _op(reference.embedding, lambda: Kernel("cpu", linear.can_embedding, linear.embedding))
ADD: Final = _op(reference.add, lambda: Kernel("cpu", elementwise.can_add, elementwise.add))
SOFTCAP: Final = _op(reference.softcap, lambda: Kernel("cpu", elementwise.can_softcap, elementwise.softcap))
TAKE_ROWS: Final = _op(reference.take_rows, lambda: Kernel("cpu", elementwise.can_take_rows, elementwise.take_rows))
TILE_MAX: Final = _op(reference.tile_max, lambda: Kernel("cpu", logits.can_tile_max, logits.tile_max))
SOFTMAX: Final = _op(reference.softmax, lambda: Kernel("cpu", logits.can_softmax, logits.softmax))
LOG_SOFTMAX: Final = _op(reference.log_softmax, lambda: Kernel("cpu", logits.can_log_softmax, logits.log_softmax))
RMS_NORM: Final = _op(reference.rms_norm, lambda: Kernel("cpu", norms.can_rms_norm, norms.rms_norm))
ADD_RMS_NORM: Final = _op(reference.add_rms_norm, lambda: Kernel("cpu", norms.can_add_rms_norm, norms.add_rms_norm))
LAYER_NORM: Final = _op(reference.layer_norm, lambda: Kernel("cpu", norms.can_layer_norm, norms.layer_norm))
APPLY_ROTARY: Final = _op(reference.apply_rotary, lambda: Kernel("cpu", rotary.can_apply_rotary, rotary.apply_rotary))
SILU_MUL: Final = _op(reference.silu_mul, lambda: Kernel("cpu", activations.can_gate, activations.silu_mul))
GELU_TANH_MUL: Final = _op(
    reference.gelu_tanh_mul, lambda: Kernel("cpu", activations.can_gate, activations.gelu_tanh_mul)
)
STORE_KV: Final = _op(reference.store_kv, lambda: Kernel("cpu", attention.can_store_kv, attention.store_kv))
ATTENTION_BACKWARD: Final = _op(
    reference.attention_backward,
    lambda: Kernel("cpu", attention.can_attention_backward, attention.attention_backward),
    Kernel("triton", triton_attention.can_attention_backward, triton_attention.attention_backward),
)
PAGED_ATTENTION: Final = _op(
    reference.paged_attention,
    lambda: Kernel("cpu", attention.can_paged_attention, attention.paged_attention),
    Kernel("triton", triton_attention.can_paged_attention, triton_attention.paged_attention),
)
