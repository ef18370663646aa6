"""FlashAttention under flash-attn's names, on a CPU and on a GPU: exact attention, differentiable, for any head size up to 512.

`patch_flash_attn` lets code that imports `flash_attn` find these functions.
"""

from octavo.ops.flash_attn.dense import flash_attn_func, flash_attn_kvpacked_func, flash_attn_qkvpacked_func
from octavo.ops.flash_attn.kvcache import flash_attn_with_kvcache
from octavo.ops.flash_attn.merge import merge_attn_states
from octavo.ops.flash_attn.patch import FlashAttnPatch, patch_flash_attn
from octavo.ops.flash_attn.varlen import (
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
)

__all__ = [
    "FlashAttnPatch",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "merge_attn_states",
    "patch_flash_attn",
]
