"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a window on the upper layers if asked for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.core.errors import ModelFileError
from octavo.loader.checkpoint import Checkpoint
from octavo.models import llama
from octavo.models.config_fields import MAX_LAYERS, LayerKind, field, layer_kinds, size
from octavo.models.decoder import DecoderSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, with_head_of_file
from octavo.models.gguf_fields import decoder_config_from_gguf


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    base = llama.spec({**config, "attention_bias": None, "mlp_bias": None})
    layers = [replace(layer, mixer=replace(layer.mixer, has_qkv_bias=True)) for layer in base.layers]
    return replace(base, layers=tuple(windowed(layers, config)))


def windowed(layers: list[LayerSpec], config: Mapping[str, Any]) -> list[LayerSpec]:
    """The layers, with a sliding window on those that `layer_types` or `max_window_layers` name."""
    has_windows = field(config, "use_sliding_window", bool, False) and config.get("sliding_window") is not None
    first_windowed = size(config, "max_window_layers", 28, least=0, most=MAX_LAYERS) if has_windows else len(layers)
    default = [LayerKind.SLIDING if index >= first_windowed else LayerKind.FULL for index in range(len(layers))]
    kinds = layer_kinds(config, len(layers), default)
    if LayerKind.SLIDING not in kinds:
        return layers
    if not has_windows:
        raise ModelFileError(
            f"the model's config has {LayerKind.SLIDING} in layer_types, but use_sliding_window or sliding_window does "
            "not ask for a window; download the config again",
            param="layer_types",
        )
    window = size(config, "sliding_window")
    return [
        replace(layer, mixer=replace(layer.mixer, shape=replace(layer.mixer.shape, window=window)))
        if kind is LayerKind.SLIDING
        else layer
        for layer, kind in zip(layers, kinds, strict=True)
    ]


def spec_from_gguf(checkpoint: Checkpoint) -> DecoderSpec:
    return with_head_of_file(spec(decoder_config_from_gguf(checkpoint.metadata, "qwen2")), checkpoint)


FAMILY = ModelFamily(
    name="Qwen2",
    architectures=("Qwen2ForCausalLM",),
    gguf_architectures=("qwen2",),
    spec=spec,
    spec_from_gguf=spec_from_gguf,
    weights=DECODER_WEIGHTS,
    gguf_weights=lambda spec: GGUF_DECODER_WEIGHTS,
)
