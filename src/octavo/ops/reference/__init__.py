"""Every op in plain PyTorch: the specification that all other kernels are tested against.

Works on any device and float dtype. On a CPU a row's bits depend on nothing but the row.
Arguments are taken as checked by the public signatures.
"""

from octavo.ops.reference.activations import gelu_tanh_mul, silu_mul
from octavo.ops.reference.arithmetic import fused_multiply_add
from octavo.ops.reference.attention import attention_backward, paged_attention, store_kv
from octavo.ops.reference.elementwise import add, softcap, take_rows
from octavo.ops.reference.flash_attention_1 import block_sizes, flash_attention_1, flash_attention_1_backward
from octavo.ops.reference.flash_attention_2 import flash_attention_2, flash_attention_2_backward
from octavo.ops.reference.linear import (
    bf16_rows,
    dequantize,
    embedding,
    linear,
    linear_bf16,
    pack_stacked,
    pack_weight,
    round_bf16,
)
from octavo.ops.reference.linear_i8 import linear_i8, quantize_rows, quantize_weight
from octavo.ops.reference.linear_int8 import linear_int8, quantize_activations
from octavo.ops.reference.logits import log_softmax, softmax, tile_max
from octavo.ops.reference.norms import add_rms_norm, layer_norm, rms_norm
from octavo.ops.reference.rotary import apply_rotary
from octavo.ops.reference.standard_attention import standard_attention, standard_attention_backward
from octavo.ops.reference.two_level_memory import TwoLevelMemory

__all__ = [
    "TwoLevelMemory",
    "add",
    "add_rms_norm",
    "apply_rotary",
    "attention_backward",
    "bf16_rows",
    "block_sizes",
    "dequantize",
    "embedding",
    "flash_attention_1",
    "flash_attention_1_backward",
    "flash_attention_2",
    "flash_attention_2_backward",
    "fused_multiply_add",
    "gelu_tanh_mul",
    "layer_norm",
    "linear",
    "linear_bf16",
    "linear_i8",
    "linear_int8",
    "log_softmax",
    "pack_stacked",
    "pack_weight",
    "paged_attention",
    "quantize_activations",
    "quantize_rows",
    "quantize_weight",
    "rms_norm",
    "round_bf16",
    "silu_mul",
    "softcap",
    "softmax",
    "standard_attention",
    "standard_attention_backward",
    "store_kv",
    "take_rows",
    "tile_max",
]
