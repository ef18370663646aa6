"""Kernels are launched here: run at once, or appended to the recording that their tensors belong to."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from octavo import _native
from octavo.ops.attention_options import AttentionOptions
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.cpu.tensors import address
from octavo.ops.recording import Launch, RecordedTensor


@dataclass(frozen=True, slots=True)
class NativeKernel:
    """A kernel of csrc/: its argument block, and which of the arguments it writes."""

    name: str
    block: type
    outputs: tuple[str, ...]


LINEAR = NativeKernel("linear", _native.LinearArguments, ("y",))
ROUND = NativeKernel("round", _native.RoundArguments, ("y",))
LINEAR_BF16 = NativeKernel("linear_bf16", _native.LinearBf16Arguments, ("y",))
GATED_LINEAR = NativeKernel("gated_linear", _native.GatedLinearArguments, ("y",))
QUANTIZE_GROUPS = NativeKernel("quantize_groups", _native.QuantizeGroupsArguments, ("q", "scales", "sums"))
LINEAR_INT8 = NativeKernel("linear_int8", _native.LinearInt8Arguments, ("y",))
QUANTIZE_ROWS = NativeKernel("quantize_rows", _native.QuantizeRowsArguments, ("q", "scales", "sums"))
LINEAR_I8 = NativeKernel("linear_i8", _native.LinearI8Arguments, ("y",))
EMBEDDING = NativeKernel("embedding", _native.EmbeddingArguments, ("y",))
TAKE_ROWS = NativeKernel("take_rows", _native.TakeRowsArguments, ("y",))
ADD = NativeKernel("add", _native.AddArguments, ("total",))
SOFTCAP = NativeKernel("softcap", _native.SoftcapArguments, ("y",))
TILE_MAX = NativeKernel("tile_max", _native.TileMaxArguments, ("maximums",))
SOFTMAX = NativeKernel("softmax", _native.SoftmaxArguments, ("y",))
RMS_NORM = NativeKernel("rms_norm", _native.RmsNormArguments, ("total", "y", "q", "scales", "sums", "bf16"))
LAYER_NORM = NativeKernel("layer_norm", _native.LayerNormArguments, ("y",))
ROTARY = NativeKernel("rotary", _native.RotaryArguments, ("x",))
GATED = NativeKernel("gated", _native.GatedArguments, ("y", "q", "scales", "sums", "bf16"))
STORE = NativeKernel("store", _native.StoreArguments, ())
HEADS = NativeKernel("heads", _native.HeadsArguments, ("q_out",))
ATTENTION = NativeKernel("attention", _native.AttentionArguments, ("o",))

KERNELS = {
    kernel.name: kernel
    for kernel in (
        LINEAR,
        ROUND,
        LINEAR_BF16,
        GATED_LINEAR,
        QUANTIZE_GROUPS,
        LINEAR_INT8,
        QUANTIZE_ROWS,
        LINEAR_I8,
        EMBEDDING,
        TAKE_ROWS,
        ADD,
        SOFTCAP,
        TILE_MAX,
        SOFTMAX,
        RMS_NORM,
        LAYER_NORM,
        ROTARY,
        GATED,
        STORE,
        HEADS,
        ATTENTION,
    )
}


def launch(kernel: NativeKernel, **arguments: Any) -> None:
    """Run the kernel on its argument block: tensors by address, None as a null pointer."""
    for value in arguments.values():
        if isinstance(value, RecordedTensor):
            value.recording.launches.append(Launch(kernel.name, arguments, kernel.outputs))
            return
    _native.run(kernel.block(**{name: native(value) for name, value in arguments.items()}))


def native(value: Any) -> Any:
    """An argument as the kernels take it: tensors by address, plans and options as their native blocks."""
    if isinstance(value, AttentionPlan):
        return native_plan(value)
    if isinstance(value, AttentionOptions):
        return native_scores(value)
    return address(value) if value is None or isinstance(value, Tensor) else value


def native_plan(plan: AttentionPlan) -> _native.AttentionPlan:
    """Addresses of a plan's tensors; the plan must outlive it."""
    return _native.AttentionPlan(
        query_starts=address(plan.query_starts),
        seq_lens=address(plan.seq_lens),
        block_tables=address(plan.block_tables),
        key_starts=address(plan.key_starts),
        num_requests=plan.num_requests,
        max_blocks=plan.block_tables.shape[1],
    )


def native_scores(options: AttentionOptions) -> _native.AttentionScores:
    """Options whose tensors lie as the kernels read them (`cpu.attention.laid_out`); they must outlive it."""
    bias, slopes, dropout = options.bias, options.alibi_slopes, options.dropout
    return _native.AttentionScores(
        scale=options.scale,
        softcap=options.softcap,
        left=-1 if options.window_left is None else options.window_left,
        right=-1 if options.window_right is None else options.window_right,
        sinks=address(options.sinks),
        slopes=address(slopes),
        slopes_stride=_request_stride(slopes),
        bias=address(bias),
        bias_request_stride=0 if bias is None or bias.shape[0] == 1 else bias.stride(0),
        bias_head_stride=0 if bias is None or bias.shape[1] == 1 else bias.stride(1),
        bias_row_stride=0 if bias is None else bias.stride(2),
        bias_keys=0 if bias is None else bias.shape[3],
        k_scales=address(options.k_scales),
        v_scales=address(options.v_scales),
        k_scales_stride=_request_stride(options.k_scales),
        v_scales_stride=_request_stride(options.v_scales),
        seed=0 if dropout is None else dropout.seed % 2**64,
        threshold=0 if dropout is None else dropout.threshold,
        kept_factor=0.0 if dropout is None else 1 / (1 - dropout.probability),
    )


def _request_stride(values: Tensor | None) -> int:
    """Of (heads,) or (requests, heads)."""
    return 0 if values is None or values.dim() == 1 else values.stride(0)
