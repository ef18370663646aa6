"""Token embedding; its packed weight may also serve as the output head."""

from torch import Tensor

from octavo import ops
from octavo.ops import PackedWeight


class Embedding:
    """Rows of the embedding table, unpacked, times `scale`."""

    def __init__(self, weight: PackedWeight, scale: float = 1.0) -> None:
        self.weight = weight
        self.scale = scale

    def __call__(self, ids_T: Tensor) -> Tensor:
        return ops.embedding(ids_T, self.weight, self.scale)
