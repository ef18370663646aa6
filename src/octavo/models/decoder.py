"""The decoder-only transformer that every family here is an instance of.

A family says *what* (`DecoderSpec`); this file says *how*. T: tokens, R: rows whose logits are wanted,
C: hidden size, V: vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.core.cache_spec import CacheSpec, FullAttentionSpec, KVDtype, SlidingWindowSpec
from octavo.layers.attention import Attention, AttentionShape
from octavo.layers.context import ForwardContext
from octavo.layers.embedding import Embedding
from octavo.layers.linear import Linear
from octavo.layers.mlp import GatedMLP
from octavo.layers.norm import RMSNorm
from octavo.layers.rope import RopeSpec, RotaryEmbedding
from octavo.loader.parameters import ParameterSource
from octavo.quantization import LinearMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Grouped-query attention: shape, positions, biases."""

    shape: AttentionShape
    rope: RopeSpec
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_qk_norm: bool = False

    def cache_spec(self, block_size: int, dtype: KVDtype) -> CacheSpec:
        shape = self.shape
        if shape.window is None:
            return FullAttentionSpec(
                block_size=block_size,
                num_kv_heads=shape.num_kv_heads,
                key_head_dim=shape.head_dim,
                value_head_dim=shape.head_dim,
                dtype=dtype,
            )
        return SlidingWindowSpec(
            block_size=block_size,
            num_kv_heads=shape.num_kv_heads,
            key_head_dim=shape.head_dim,
            value_head_dim=shape.head_dim,
            dtype=dtype,
            window=shape.window,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMLPSpec:
    intermediate_size: int
    activation: str
    """As config.json names it; see `GATED_ACTIVATIONS`."""
    has_bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """x ← x + post(mixer(pre(x))); x ← x + post(ffn(pre(x))), where post is a norm only if `has_post_norms`."""

    mixer: AttentionSpec
    ffn: GatedMLPSpec
    has_post_norms: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """A family's whole answer: sizes, layers, and what happens at either end."""

    vocab_size: int
    hidden_size: int
    max_position: int
    norm_eps: float
    layers: tuple[LayerSpec, ...]
    has_tied_embeddings: bool
    embedding_scale: float = 1.0
    logit_softcap: float = 0.0

    def cache_specs(self, block_size: int, dtype: KVDtype) -> list[CacheSpec]:
        """One a layer."""
        return [layer.mixer.cache_spec(block_size, dtype) for layer in self.layers]


class DecoderLayer:
    """One layer; takes and gives the residual stream as (stream, addition still to be made)."""

    def __init__(
        self,
        mixer: Attention,
        ffn: GatedMLP,
        mixer_norm: RMSNorm,
        ffn_norm: RMSNorm,
        post_mixer_norm: RMSNorm | None,
        post_ffn_norm: RMSNorm | None,
    ) -> None:
        self.mixer = mixer
        self.ffn = ffn
        self.mixer_norm = mixer_norm
        self.ffn_norm = ffn_norm
        self.post_mixer_norm = post_mixer_norm
        self.post_ffn_norm = post_ffn_norm

    def __call__(self, stream_TC: Tensor, delta_TC: Tensor | None, context: ForwardContext) -> tuple[Tensor, Tensor]:
        if delta_TC is None:
            normed_TC = self.mixer_norm(stream_TC)
        else:
            normed_TC, stream_TC = self.mixer_norm.add(delta_TC, stream_TC)
        delta_TC = self.mixer(normed_TC, context)
        if self.post_mixer_norm is not None:
            delta_TC = self.post_mixer_norm(delta_TC)
        normed_TC, stream_TC = self.ffn_norm.add(delta_TC, stream_TC)
        delta_TC = self.ffn(normed_TC)
        if self.post_ffn_norm is not None:
            delta_TC = self.post_ffn_norm(delta_TC)
        return stream_TC, delta_TC


class Decoder:
    """Token ids in, hidden states out, and logits of the rows that are wanted. Holds weights; the KV cache is bound by the worker."""

    def __init__(
        self, spec: DecoderSpec, embedding: Embedding, layers: Sequence[DecoderLayer], norm: RMSNorm, head: Linear
    ) -> None:
        self.spec = spec
        self.embedding = embedding
        self.layers = list(layers)
        self.norm = norm
        self.head = head

    def __call__(self, ids_T: Tensor, context: ForwardContext) -> Tensor:
        """The hidden state of every token, (T, C); keys and values are stored on the way."""
        stream_TC = self.embedding(ids_T)
        delta_TC: Tensor | None = None
        for layer in self.layers:
            stream_TC, delta_TC = layer(stream_TC, delta_TC, context)
        return stream_TC if delta_TC is None else stream_TC + delta_TC

    def logits(self, hidden_RC: Tensor) -> Tensor:
        """The logits (R, V), in fp32, of the rows wanted."""
        logits_RV = self.head(self.norm(hidden_RC)).float()
        cap = self.spec.logit_softcap
        return torch.tanh(logits_RV / cap) * cap if cap else logits_RV


def build_decoder(
    spec: DecoderSpec,
    source: ParameterSource,
    method: LinearMethod,
    *,
    max_position: int,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Decoder:
    """Load a decoder's weights; `on_layer` is told of each layer done, for a progress bar.

    Raises `ModelFileError` for a tensor that is missing or of another shape than the spec's.
    """
    builder = _Builder(spec, source, method, max_position, device)
    embedding_weight = method.load([source.matrix("embedding.weight", spec.vocab_size, spec.hidden_size)])
    is_tied = spec.has_tied_embeddings or not source.has("head.weight")
    head = Linear(method, embedding_weight) if is_tied else builder.linear("head", spec.vocab_size, spec.hidden_size)
    layers = []
    for index, layer in enumerate(spec.layers):
        layers.append(builder.layer(f"layers.{index}", layer))
        on_layer(index)
    (embedding_part,) = embedding_weight.parts
    embedding = Embedding(embedding_part, spec.embedding_scale)
    return Decoder(spec, embedding, layers, builder.norm("norm", spec.hidden_size), head)


class _Builder:
    """Makes layers from their specs and named parameters."""

    def __init__(
        self, spec: DecoderSpec, source: ParameterSource, method: LinearMethod, max_position: int, device: torch.device
    ) -> None:
        self._spec = spec
        self._source = source
        self._method = method
        self._max_position = max_position
        self._device = device
        self._ropes: dict[RopeSpec, RotaryEmbedding] = {}

    def layer(self, name: str, spec: LayerSpec) -> DecoderLayer:
        size = self._spec.hidden_size
        return DecoderLayer(
            self._attention(f"{name}.mixer", spec.mixer),
            self._gated_mlp(f"{name}.ffn", spec.ffn),
            self.norm(f"{name}.mixer_norm", size),
            self.norm(f"{name}.ffn_norm", size),
            self.norm(f"{name}.post_mixer_norm", size) if spec.has_post_norms else None,
            self.norm(f"{name}.post_ffn_norm", size) if spec.has_post_norms else None,
        )

    def linear(self, name: str, out_features: int, in_features: int, *, has_bias: bool = False) -> Linear:
        return self._stacked([name], [out_features], in_features, has_bias)

    def norm(self, name: str, size: int) -> RMSNorm:
        return RMSNorm(self._source.vector(f"{name}.weight", size).to(self._device), self._spec.norm_eps)

    def _stacked(self, names: Sequence[str], sizes: Sequence[int], in_features: int, has_bias: bool) -> Linear:
        parts = list(zip(names, sizes, strict=True))
        weights = [self._source.matrix(f"{name}.weight", size, in_features) for name, size in parts]
        bias = None
        if has_bias:
            bias = torch.cat([self._source.vector(f"{name}.bias", size) for name, size in parts]).to(self._device)
        return Linear(self._method, self._method.load(weights), bias)

    def _attention(self, name: str, spec: AttentionSpec) -> Attention:
        shape, hidden_size = spec.shape, self._spec.hidden_size
        q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        names = [f"{name}.q", f"{name}.k", f"{name}.v"]
        return Attention(
            shape,
            self._stacked(names, [q_size, kv_size, kv_size], hidden_size, spec.has_qkv_bias),
            self.linear(f"{name}.o", hidden_size, q_size, has_bias=spec.has_output_bias),
            self._rope(spec.rope),
            self.norm(f"{name}.q_norm", shape.head_dim) if spec.has_qk_norm else None,
            self.norm(f"{name}.k_norm", shape.head_dim) if spec.has_qk_norm else None,
        )

    def _gated_mlp(self, name: str, spec: GatedMLPSpec) -> GatedMLP:
        hidden_size, size = self._spec.hidden_size, spec.intermediate_size
        return GatedMLP(
            self._stacked([f"{name}.gate", f"{name}.up"], [size, size], hidden_size, spec.has_bias),
            self.linear(f"{name}.down", hidden_size, size, has_bias=spec.has_bias),
            spec.activation,
        )

    def _rope(self, spec: RopeSpec) -> RotaryEmbedding:
        if spec not in self._ropes:
            self._ropes[spec] = RotaryEmbedding(spec, self._max_position, self._device)
        return self._ropes[spec]
