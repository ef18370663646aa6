"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a window on the upper layers if asked for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.loader.checkpoint import Checkpoint
from octavo.models import llama
from octavo.models.config_fields import decoder_config_from_gguf, field, size
from octavo.models.decoder import DecoderSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    base = llama.spec(config)
    layers = [
        replace(layer, mixer=replace(layer.mixer, has_qkv_bias=True, has_output_bias=False)) for layer in base.layers
    ]
    return replace(base, layers=tuple(windowed(layers, config)))


def windowed(layers: list[LayerSpec], config: Mapping[str, Any]) -> list[LayerSpec]:
    """The layers, with a sliding window on those that `layer_types` or `max_window_layers` name."""
    if not field(config, "use_sliding_window", bool, False) or config.get("sliding_window") is None:
        return layers
    window = size(config, "sliding_window")
    first_windowed = field(config, "max_window_layers", int, len(layers))
    default_types = ["full_attention"] * first_windowed + ["sliding_attention"] * len(layers)
    types = config.get("layer_types") or default_types[: len(layers)]
    return [
        replace(layer, mixer=replace(layer.mixer, shape=replace(layer.mixer.shape, window=window)))
        if kind == "sliding_attention"
        else layer
        for layer, kind in zip(layers, types, strict=True)
    ]


def config_from_gguf(checkpoint: Checkpoint) -> Mapping[str, Any]:
    return decoder_config_from_gguf(checkpoint.metadata, "qwen2")


FAMILY = ModelFamily(
    name="Qwen2",
    architectures=("Qwen2ForCausalLM",),
    gguf_architectures=("qwen2",),
    spec=spec,
    weights=DECODER_WEIGHTS,
    gguf_weights=lambda spec: GGUF_DECODER_WEIGHTS,
    config_from_gguf=config_from_gguf,
)
