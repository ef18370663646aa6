"""Llama 1, 2 and 3, and those built like it: SmolLM2, Yi, Vicuna."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.layers.attention import AttentionShape
from octavo.layers.rope import rope_spec
from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import NameMap, Source
from octavo.models.config_fields import decoder_config_from_gguf, field, rope_parameters, size
from octavo.models.decoder import AttentionSpec, DecoderSpec, GatedMLPSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, unpermute


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    hidden_size = size(config, "hidden_size")
    num_heads = size(config, "num_attention_heads")
    head_dim = size(config, "head_dim", hidden_size // num_heads)
    max_position = size(config, "max_position_embeddings")
    has_bias = field(config, "attention_bias", bool, False)
    rope = rope_spec(head_dim, rope_parameters(config), max_position)
    divisors = tuple(config.get("rope_frequency_divisors", ()))
    layer = LayerSpec(
        mixer=AttentionSpec(
            shape=AttentionShape(
                num_heads=num_heads,
                num_kv_heads=size(config, "num_key_value_heads", num_heads),
                head_dim=head_dim,
                scale=head_dim**-0.5,
            ),
            rope=replace(rope, frequency_divisors=divisors),
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
        norm_eps=field(config, "rms_norm_eps", float, 1e-6),
        layers=(layer,) * size(config, "num_hidden_layers", most=1024),
        has_tied_embeddings=field(config, "tie_word_embeddings", bool, False),
    )


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


def config_from_gguf(checkpoint: Checkpoint) -> Mapping[str, Any]:
    config = decoder_config_from_gguf(checkpoint.metadata, "llama")
    config["attention_bias"] = "blk.0.attn_q.bias" in checkpoint.tensor_names
    if "rope_freqs.weight" in checkpoint.tensor_names:  # Llama 3.1's scaling, written out
        config["rope_frequency_divisors"] = checkpoint.tensor("rope_freqs.weight").tolist()
    return config


FAMILY = ModelFamily(
    name="Llama",
    architectures=("LlamaForCausalLM",),
    gguf_architectures=("llama",),
    spec=spec,
    weights=DECODER_WEIGHTS,
    gguf_weights=gguf_weights,
    config_from_gguf=config_from_gguf,
)
