"""Qwen3: Llama with RMS norms on the heads of q and k, before the rotation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.loader.checkpoint import Checkpoint
from octavo.models import llama
from octavo.models.config_fields import size
from octavo.models.decoder import DecoderSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, with_head_of_file
from octavo.models.gguf_fields import decoder_config_from_gguf
from octavo.models.qwen2 import windowed


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    base = llama.spec({**config, "head_dim": size(config, "head_dim", 128), "mlp_bias": None})
    layers = [replace(layer, mixer=replace(layer.mixer, has_qk_norm=True)) for layer in base.layers]
    return replace(base, layers=tuple(windowed(layers, config)))


def spec_from_gguf(checkpoint: Checkpoint) -> DecoderSpec:
    return with_head_of_file(spec(decoder_config_from_gguf(checkpoint.metadata, "qwen3")), checkpoint)


FAMILY = ModelFamily(
    name="Qwen3",
    architectures=("Qwen3ForCausalLM",),
    gguf_architectures=("qwen3",),
    spec=spec,
    spec_from_gguf=spec_from_gguf,
    weights=DECODER_WEIGHTS,
    gguf_weights=lambda spec: GGUF_DECODER_WEIGHTS,
)
