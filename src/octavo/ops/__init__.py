"""Checked tensor operations: one signature each, the best kernel of the device behind it.

`octavo.ops.reference` is the specification in plain PyTorch; `octavo.ops.cpu` the native kernels, `octavo.ops.triton`
those for NVIDIA GPUs.
All ops work row by row over the flattened tokens of a step, and a row's bits depend on nothing
but the row (on a CPU).
"""

from octavo.ops.activations import gelu_tanh_mul, silu_mul
from octavo.ops.attention import attention_backward, paged_attention, store_kv
from octavo.ops.attention_options import AttentionOptions, Dropout
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.dispatch import available_isas, isa
from octavo.ops.elementwise import add, softcap, take_rows
from octavo.ops.errors import OpArgumentError
from octavo.ops.flash_attn import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
    merge_attn_states,
    patch_flash_attn,
)
from octavo.ops.linear import (
    dequantize,
    embedding,
    has_bf16_tiles,
    linear,
    linear_bf16,
    linear_i8,
    linear_int8,
    pack_stacked,
    pack_weight,
    quantize_activations,
    quantize_rows,
    quantize_weight,
    round_bf16,
)
from octavo.ops.logits import log_softmax, softmax, tile_max
from octavo.ops.norms import add_rms_norm, layer_norm, rms_norm
from octavo.ops.quantized_activations import PAIRED_MULTIPLE, Bf16Activations, QuantizedActivations, QuantizedRows
from octavo.ops.recording import NotRecordableError, RecordedTensor, Recording, RowSet
from octavo.ops.replay import can_replay, make_program
from octavo.ops.rotary import apply_rotary
from octavo.ops.threads import num_threads, num_usable_cores, set_num_threads
from octavo.ops.weights import PackedWeight, StoredWeight, WeightFormat, WeightLayout

__all__ = [
    "PAIRED_MULTIPLE",
    "AttentionOptions",
    "AttentionPlan",
    "Bf16Activations",
    "Dropout",
    "NotRecordableError",
    "OpArgumentError",
    "PackedWeight",
    "QuantizedActivations",
    "QuantizedRows",
    "RecordedTensor",
    "Recording",
    "RowSet",
    "StoredWeight",
    "WeightFormat",
    "WeightLayout",
    "add",
    "add_rms_norm",
    "apply_rotary",
    "attention_backward",
    "available_isas",
    "can_replay",
    "dequantize",
    "embedding",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "gelu_tanh_mul",
    "has_bf16_tiles",
    "isa",
    "layer_norm",
    "linear",
    "linear_bf16",
    "linear_i8",
    "linear_int8",
    "log_softmax",
    "make_program",
    "merge_attn_states",
    "num_threads",
    "num_usable_cores",
    "pack_stacked",
    "pack_weight",
    "paged_attention",
    "patch_flash_attn",
    "quantize_activations",
    "quantize_rows",
    "quantize_weight",
    "rms_norm",
    "round_bf16",
    "set_num_threads",
    "silu_mul",
    "softcap",
    "softmax",
    "store_kv",
    "take_rows",
    "tile_max",
]
