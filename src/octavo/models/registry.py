"""The model families Octavo knows: one line each."""

from collections.abc import Callable

import torch

from octavo.core.errors import UnsupportedModelError
from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import ParameterSource
from octavo.models import gemma3, llama, qwen2, qwen3
from octavo.models.decoder import Decoder, DecoderSpec, build_decoder
from octavo.models.family import ModelFamily
from octavo.quantization import LinearMethod

FAMILIES: tuple[ModelFamily, ...] = (llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY, gemma3.FAMILY)


def family_of(checkpoint: Checkpoint) -> ModelFamily:
    """The family of a checkpoint's architecture. Raises `UnsupportedModelError` naming it and the known ones."""
    is_gguf = checkpoint.kind == "gguf"
    for family in FAMILIES:
        if checkpoint.architecture in (family.gguf_architectures if is_gguf else family.architectures):
            return family
    known = sorted(
        name for family in FAMILIES for name in (family.gguf_architectures if is_gguf else family.architectures)
    )
    raise UnsupportedModelError(
        f"{checkpoint.path}: architecture {checkpoint.architecture!r} is not built yet; built are {', '.join(known)}",
        param="architecture",
    )


def read_spec(checkpoint: Checkpoint) -> DecoderSpec:
    """What the checkpoint's config asks for. Raises `ModelFileError` or `UnsupportedModelError`."""
    family = family_of(checkpoint)
    config = family.config_from_gguf(checkpoint) if checkpoint.kind == "gguf" else checkpoint.config
    return family.spec(config)


def load_decoder(
    checkpoint: Checkpoint,
    spec: DecoderSpec,
    method: LinearMethod,
    *,
    max_position: int,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Decoder:
    """Build the checkpoint's model and load its weights."""
    family = family_of(checkpoint)
    names = family.gguf_weights(spec) if checkpoint.kind == "gguf" else family.weights
    source = ParameterSource(checkpoint, names)
    return build_decoder(spec, source, method, max_position=max_position, device=device, on_layer=on_layer)
