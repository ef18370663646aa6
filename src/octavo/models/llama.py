"""Llama 1, 2 and 3, and those built like it: SmolLM2, Yi, Vicuna."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.core.errors import ModelFileError
from octavo.layers.attention import AttentionShape, AttentionSpec
from octavo.layers.mlp import GatedMLPSpec
from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import NameMap, Source
from octavo.models.config_fields import MAX_LAYERS, field, norm_eps, size
from octavo.models.decoder import DecoderSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, unpermute, with_head_of_file
from octavo.models.gguf_fields import decoder_config_from_gguf
from octavo.models.rope_fields import rope_parameters, rope_spec

ROPE_FREQS = "rope_freqs.weight"
"""Llama 3.1's scaling in a GGUF file, written out: what each frequency is divided by."""


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    hidden_size = size(config, "hidden_size")
    num_heads = size(config, "num_attention_heads")
    head_dim = _head_dim(config, hidden_size, num_heads)
    max_position = size(config, "max_position_embeddings")
    has_bias = field(config, "attention_bias", bool, False)
    layer = LayerSpec(
        mixer=AttentionSpec(
            shape=AttentionShape(
                num_heads=num_heads,
                num_kv_heads=size(config, "num_key_value_heads", num_heads),
                head_dim=head_dim,
                scale=head_dim**-0.5,
            ),
            rope=rope_spec(head_dim, rope_parameters(config), max_position),
            has_qkv_bias=has_bias,
            has_output_bias=has_bias,
        ),
        ffn=GatedMLPSpec(
            intermediate_size=size(config, "intermediate_size"),
            activation=field(config, "hidden_act", str, "silu"),
            has_bias=field(config, "mlp_bias", bool, False),
        ),
    )
    return DecoderSpec(
        vocab_size=size(config, "vocab_size"),
        hidden_size=hidden_size,
        max_position=max_position,
        norm_eps=norm_eps(config, 1e-6),
        layers=(layer,) * size(config, "num_hidden_layers", most=MAX_LAYERS),
        has_tied_embeddings=field(config, "tie_word_embeddings", bool, False),
    )


def _head_dim(config: Mapping[str, Any], hidden_size: int, num_heads: int) -> int:
    if config.get("head_dim") is not None:
        return size(config, "head_dim")
    if hidden_size % num_heads:
        raise ModelFileError(
            f"the model's config has no head_dim, and hidden_size={hidden_size} is not divisible by "
            f"num_attention_heads={num_heads}; download the config again",
            param="head_dim",
        )
    return hidden_size // num_heads


def gguf_weights(spec: DecoderSpec) -> NameMap:
    shape = spec.layers[0].mixer.shape
    q_rows, k_rows = unpermute(shape.num_heads), unpermute(shape.num_kv_heads)
    return {
        **GGUF_DECODER_WEIGHTS,
        "layers.{}.mixer.q.weight": Source("blk.{}.attn_q.weight", q_rows),
        "layers.{}.mixer.k.weight": Source("blk.{}.attn_k.weight", k_rows),
        "layers.{}.mixer.q.bias": Source("blk.{}.attn_q.bias", q_rows),
        "layers.{}.mixer.k.bias": Source("blk.{}.attn_k.bias", k_rows),
    }


def spec_from_gguf(checkpoint: Checkpoint) -> DecoderSpec:
    """The header does not tell of biases or of Llama 3.1's frequencies: the tensors do."""
    base = spec(decoder_config_from_gguf(checkpoint.metadata, "llama"))

    def has_any(*names: str) -> bool:
        return any(f"blk.0.{name}.bias" in checkpoint.tensor_names for name in names)

    [layer] = set(base.layers)
    rope = replace(layer.mixer.rope, frequency_divisors=_frequency_divisors(checkpoint, layer.mixer.shape.head_dim))
    mixer = replace(
        layer.mixer,
        rope=rope,
        has_qkv_bias=has_any("attn_q", "attn_k", "attn_v"),
        has_output_bias=has_any("attn_output"),
    )
    ffn = replace(layer.ffn, has_bias=has_any("ffn_gate", "ffn_up", "ffn_down"))
    layers = (replace(layer, mixer=mixer, ffn=ffn),) * len(base.layers)
    return with_head_of_file(replace(base, layers=layers), checkpoint)


def _frequency_divisors(checkpoint: Checkpoint, head_dim: int) -> tuple[float, ...]:
    if ROPE_FREQS not in checkpoint.tensor_names:
        return ()
    shape = tuple(checkpoint.shape(ROPE_FREQS))
    if shape != (head_dim // 2,):
        raise ModelFileError(
            f"{checkpoint.path}: tensor {ROPE_FREQS} has shape {list(shape)}; heads of size {head_dim} call for "
            f"{[head_dim // 2]}; convert the model again",
            param=ROPE_FREQS,
        )
    divisors = [float(value) for value in checkpoint.tensor(ROPE_FREQS).tolist()]
    for value in divisors:
        if not 1e-6 <= value <= 1e6:
            raise ModelFileError(
                f"{checkpoint.path}: tensor {ROPE_FREQS} holds {value}; allowed are 1e-06 … 1e+06; "
                "convert the model again",
                param=ROPE_FREQS,
            )
    return tuple(divisors)


FAMILY = ModelFamily(
    name="Llama",
    architectures=("LlamaForCausalLM",),
    gguf_architectures=("llama",),
    spec=spec,
    spec_from_gguf=spec_from_gguf,
    weights=DECODER_WEIGHTS,
    gguf_weights=gguf_weights,
    gguf_spec_tensors=frozenset({ROPE_FREQS}),
)
