"""How a weight matrix is stored: element types and the block formats that GGUF files carry.

A weight is a matrix (out_features N, in_features K), one row an output feature. Block formats
pack a row as K / block_size blocks of `block_bytes` bytes, little-endian, as ggml defines them
(ggml-common.h of llama.cpp); K must be a multiple of the block size. I8 is in no file: float weights are
made I8 at load, a row being its scale (fp32), then K signed bytes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.core.strenum import StrEnum

if TYPE_CHECKING:
    from torch import Tensor


class WeightFormat(StrEnum):
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q8_0 = "Q8_0"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
    I8 = "I8"

    @property
    def block_size(self) -> int:
        """Elements a block."""
        return _LAYOUT[self.value][0]

    @property
    def block_bytes(self) -> int:
        return _LAYOUT[self.value][1]

    @property
    def is_block_format(self) -> bool:
        return self.block_size > 1

    @property
    def is_in_files(self) -> bool:
        """I8 is not: it is made of float weights at load."""
        return self is not WeightFormat.I8

    def row_bytes(self, in_features: int) -> int:
        """Bytes of one packed row of `in_features` elements."""
        if self is WeightFormat.I8:
            return 4 + in_features
        return in_features // self.block_size * self.block_bytes


_LAYOUT = {  # format: (elements, bytes) a block
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "I8": (1, 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """A weight as its file holds it. `data` is (N, K) of its dtype, or (N, row_bytes) uint8 for block formats and I8.

    Rows may be gathered or sliced without unpacking: a row never shares a byte with another.
    """

    data: "Tensor"
    format: WeightFormat
    out_features: int
    in_features: int

    @property
    def num_bytes(self) -> int:
        return self.out_features * self.format.row_bytes(self.in_features)
