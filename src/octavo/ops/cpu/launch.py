"""Kernels are launched here: run at once, or appended to the recording that their tensors belong to."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from octavo import _native
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
    _native.run(kernel.block(**{name: _raw(value) for name, value in arguments.items()}))


def _raw(value: Any) -> Any:
    if isinstance(value, AttentionPlan):
        return native_plan(value)
    return address(value) if value is None or isinstance(value, Tensor) else value


def native_plan(plan: AttentionPlan) -> _native.AttentionPlan:
    """Addresses of a plan's tensors; the plan must outlive it."""
    return _native.AttentionPlan(
        query_starts=address(plan.query_starts),
        seq_lens=address(plan.seq_lens),
        block_tables=address(plan.block_tables),
        num_requests=plan.num_requests,
        max_blocks=plan.block_tables.shape[1],
    )
