"""The model families Octavo knows: one line each."""

from collections.abc import Callable, Set
from fnmatch import fnmatchcase

import torch

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.layers.builder import LayerBuilder
from octavo.loader.checkpoint import Checkpoint, CheckpointKind
from octavo.loader.parameters import ParameterSource
from octavo.loader.tensor_names import printable
from octavo.models import gemma3, llama, qwen2, qwen3
from octavo.models.decoder import Decoder, DecoderSpec, build_decoder
from octavo.models.family import IGNORED_TENSORS, ModelFamily
from octavo.models.spec_check import check_spec
from octavo.quantization import LinearMethod

FAMILIES: tuple[ModelFamily, ...] = (llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY, gemma3.FAMILY)


def family_of(checkpoint: Checkpoint) -> ModelFamily:
    """The family of a checkpoint's architecture. Raises `UnsupportedModelError` naming it and the known ones."""
    is_gguf = checkpoint.kind is CheckpointKind.GGUF
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
    is_gguf = checkpoint.kind is CheckpointKind.GGUF
    spec = family.spec_from_gguf(checkpoint) if is_gguf else family.spec(checkpoint.config)
    check_spec(spec)
    return spec


def load_decoder(
    checkpoint: Checkpoint,
    spec: DecoderSpec,
    method: LinearMethod,
    *,
    max_position: int,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Decoder:
    """Build the checkpoint's model and load its weights, all of them.

    Raises `ModelFileError` for a tensor that is missing, misshapen, or of no use to the model that the config describes.
    """
    family = family_of(checkpoint)
    is_gguf = checkpoint.kind is CheckpointKind.GGUF
    source = ParameterSource(checkpoint, family.gguf_weights(spec) if is_gguf else family.weights)
    layers = LayerBuilder(source, method, max_position=max_position, device=device)

    def layer_done(layer: int) -> None:
        checkpoint.release_pages()  # else the file and its packed form would be in memory side by side
        on_layer(layer)

    decoder = build_decoder(spec, layers, layer_done)
    _check_all_used(checkpoint, family, set(source.unread()) - (family.gguf_spec_tensors if is_gguf else frozenset()))
    return decoder


def _check_all_used(checkpoint: Checkpoint, family: ModelFamily, unread: Set[str]) -> None:
    """Weights left aside would give another model's tokens without a word."""
    unused = sorted(name for name in unread if not any(fnmatchcase(name, pattern) for pattern in IGNORED_TENSORS))
    if unused:
        listed = ", ".join(printable(name) for name in unused[:6]) + (", …" if len(unused) > 6 else "")
        raise ModelFileError(
            f"{checkpoint.path}: {len(unused)} of {len(checkpoint.tensor_names)} tensors have no place in the "
            f"{family.name} model that its config describes: {listed}; the config is not this file's, or the model is a "
            "variant that is not built yet",
            param=printable(unused[0]),
        )
