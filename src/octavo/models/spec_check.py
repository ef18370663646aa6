"""What every `DecoderSpec` must keep, whichever family and file it comes from."""

import math

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.layers.attention import AttentionShape
from octavo.layers.mlp import GATED_ACTIVATIONS
from octavo.models.decoder import DecoderSpec, LayerSpec
from octavo.ops.attention import MAX_HEAD_SIZE


def check_spec(spec: DecoderSpec) -> None:
    """Raise `ModelFileError` for sizes that contradict each other, `UnsupportedModelError` for what no kernel does."""
    for layer in dict.fromkeys(spec.layers):  # most are equal
        _check_layer(layer)


def _check_layer(layer: LayerSpec) -> None:
    _check_shape(layer.mixer.shape)
    if layer.ffn.activation not in GATED_ACTIVATIONS:
        raise UnsupportedModelError(
            f"hidden_act={layer.ffn.activation!r:.60} is not built yet; {', '.join(GATED_ACTIVATIONS)} are",
            param="hidden_act",
        )


def _check_shape(shape: AttentionShape) -> None:
    if shape.num_heads % shape.num_kv_heads:
        raise ModelFileError(
            f"num_attention_heads={shape.num_heads} is not divisible by num_key_value_heads={shape.num_kv_heads}; "
            "download the model's own config",
            param="num_key_value_heads",
        )
    if shape.head_dim % 2 or shape.head_dim > MAX_HEAD_SIZE:
        raise UnsupportedModelError(
            f"head_dim={shape.head_dim} is not built; even sizes of 2 … {MAX_HEAD_SIZE} are", param="head_dim"
        )
    assert math.isfinite(shape.scale) and shape.scale > 0, "a scale comes from a checked field"
