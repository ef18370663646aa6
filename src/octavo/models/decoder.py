"""The decoder-only transformer that every family here is an instance of.

A family says *what* (`DecoderSpec`); this file says *how*. T: tokens, R: rows whose logits are wanted,
C: hidden size, V: vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from octavo import ops
from octavo.core.cache_spec import CacheSpec, KVDtype
from octavo.layers.attention import Attention, AttentionSpec
from octavo.layers.builder import LayerBuilder
from octavo.layers.context import ForwardContext
from octavo.layers.embedding import Embedding
from octavo.layers.linear import Linear
from octavo.layers.mlp import GatedMLP, GatedMLPSpec
from octavo.layers.norm import RMSNorm


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
        return stream_TC if delta_TC is None else ops.add(stream_TC, delta_TC)

    def logits(self, hidden_TC: Tensor, rows_R: Tensor) -> Tensor:
        """The logits (R, V), in fp32, of the rows wanted."""
        hidden_RC = ops.take_rows(hidden_TC, rows_R)
        logits_RV = self.head(self.norm(hidden_RC)).float()
        cap = self.spec.logit_softcap
        return ops.softcap(logits_RV, cap) if cap else logits_RV


def build_decoder(
    spec: DecoderSpec, layers: LayerBuilder, on_layer: Callable[[int], None] = lambda layer: None
) -> Decoder:
    """Compose a decoder of layers by name; `on_layer` is told of each one done, for a progress bar.

    Raises `ModelFileError` for a tensor that is missing or of another shape than the spec's.
    """
    vocab_size, hidden_size = spec.vocab_size, spec.hidden_size
    embedding = layers.embedding("embedding", vocab_size, hidden_size, spec.embedding_scale)
    built = []
    for index, layer in enumerate(spec.layers):
        built.append(_build_layer(f"layers.{index}", spec, layer, layers))
        on_layer(index)
    return Decoder(
        spec,
        embedding,
        built,
        layers.norm("norm", hidden_size, spec.norm_eps),
        layers.tied_head("head", "embedding", embedding)
        if spec.has_tied_embeddings
        else layers.head("head", vocab_size, hidden_size),
    )


def _build_layer(name: str, decoder: DecoderSpec, spec: LayerSpec, layers: LayerBuilder) -> DecoderLayer:
    size, eps = decoder.hidden_size, decoder.norm_eps
    return DecoderLayer(
        layers.attention(f"{name}.mixer", spec.mixer, size, eps),
        layers.gated_mlp(f"{name}.ffn", spec.ffn, size),
        layers.norm(f"{name}.mixer_norm", size, eps),
        layers.norm(f"{name}.ffn_norm", size, eps),
        layers.norm(f"{name}.post_mixer_norm", size, eps) if spec.has_post_norms else None,
        layers.norm(f"{name}.post_ffn_norm", size, eps) if spec.has_post_norms else None,
    )
