"""From named parameters to layers: the one place where weights meet their format and their device."""

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from octavo.layers.attention import Attention, AttentionSpec
from octavo.layers.embedding import Embedding
from octavo.layers.linear import Linear
from octavo.layers.mlp import GatedMLP, GatedMLPSpec
from octavo.layers.norm import RMSNorm
from octavo.layers.rope import RopeSpec, RotaryEmbedding
from octavo.ops import StoredWeight
from octavo.quantization import LinearMethod, StackedWeight

logger = logging.getLogger(__name__)


class NamedParameters(Protocol):
    """Where parameters come from. Raises `ModelFileError` for what is missing or misshapen."""

    def has(self, parameter: str) -> bool: ...

    def matrix(self, parameter: str, out_features: int, in_features: int) -> StoredWeight:
        """A weight as stored, (out_features, in_features)."""
        ...

    def vector(self, parameter: str, size: int) -> Tensor:
        """A norm's weight or a bias, in fp32."""
        ...


class LayerBuilder:
    """Makes layers whose parameters are «<name>.weight», «<name>.bias» and so on.

    `max_position` positions are tabulated; layers of one rotary embedding share its table.
    """

    def __init__(
        self, source: NamedParameters, method: LinearMethod, *, max_position: int, device: torch.device
    ) -> None:
        self._source = source
        self._method = method
        self._max_position = max_position
        self._device = device
        self._ropes: dict[RopeSpec, RotaryEmbedding] = {}

    def embedding(self, name: str, vocab_size: int, hidden_size: int, scale: float = 1.0) -> Embedding:
        weight = self._method.load([self._source.matrix(f"{name}.weight", vocab_size, hidden_size)])
        (part,) = weight.parts
        return Embedding(part, scale)

    def tied_head(self, name: str, embedding_name: str, embedding: Embedding) -> Linear:
        """The output head that shares the embedding's weight.

        Where there is a head of its own all the same, and it differs, that one counts, as it does
        in `transformers` from 5.0 on.
        """
        vocab_size, hidden_size = embedding.weight.out_features, embedding.weight.in_features
        if self._source.has(f"{name}.weight"):
            own = self._source.matrix(f"{name}.weight", vocab_size, hidden_size)
            shared = self._source.matrix(f"{embedding_name}.weight", vocab_size, hidden_size)
            if own.format is not shared.format or not torch.equal(own.data, shared.data):
                logger.warning(
                    "the config ties the output head to the embedding, but the file has a head that differs: it is used"
                )
                return Linear(self._method.for_head(), self._method.load([own]))
        return Linear(self._method.for_head(), StackedWeight((embedding.weight,)))

    def head(self, name: str, vocab_size: int, hidden_size: int) -> Linear:
        """An output head with a weight of its own."""
        weight = self._source.matrix(f"{name}.weight", vocab_size, hidden_size)
        return Linear(self._method.for_head(), self._method.load([weight]))

    def linear(self, name: str, out_features: int, in_features: int, *, has_bias: bool = False) -> Linear:
        return self._stacked([name], [out_features], in_features, has_bias)

    def norm(self, name: str, size: int, eps: float) -> RMSNorm:
        return RMSNorm(self._source.vector(f"{name}.weight", size).to(self._device), eps)

    def attention(self, name: str, spec: AttentionSpec, hidden_size: int, norm_eps: float) -> Attention:
        shape = spec.shape
        q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        names = [f"{name}.q", f"{name}.k", f"{name}.v"]
        return Attention(
            shape,
            self._stacked(names, [q_size, kv_size, kv_size], hidden_size, spec.has_qkv_bias),
            self.linear(f"{name}.o", hidden_size, q_size, has_bias=spec.has_output_bias),
            self._rope(spec.rope),
            self.norm(f"{name}.q_norm", shape.head_dim, norm_eps) if spec.has_qk_norm else None,
            self.norm(f"{name}.k_norm", shape.head_dim, norm_eps) if spec.has_qk_norm else None,
        )

    def gated_mlp(self, name: str, spec: GatedMLPSpec, hidden_size: int) -> GatedMLP:
        size = spec.intermediate_size
        return GatedMLP(
            self._stacked([f"{name}.gate", f"{name}.up"], [size, size], hidden_size, spec.has_bias),
            self.linear(f"{name}.down", hidden_size, size, has_bias=spec.has_bias),
            spec.activation,
        )

    def _stacked(self, names: Sequence[str], sizes: Sequence[int], in_features: int, has_bias: bool) -> Linear:
        parts = list(zip(names, sizes, strict=True))
        weights = [self._source.matrix(f"{name}.weight", size, in_features) for name, size in parts]
        bias = None
        if has_bias:
            bias = torch.cat([self._source.vector(f"{name}.bias", size) for name, size in parts]).to(self._device)
        return Linear(self._method, self._method.load(weights), bias)

    def _rope(self, spec: RopeSpec) -> RotaryEmbedding:
        if spec not in self._ropes:
            self._ropes[spec] = RotaryEmbedding(spec, self._max_position, self._device)
        return self._ropes[spec]
