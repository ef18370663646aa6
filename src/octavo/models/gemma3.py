"""Gemma 3 (text): five layers with a sliding window to one without, norms on both sides of every block."""

from collections.abc import Mapping
from typing import Any

from octavo.core.errors import UnsupportedModelError
from octavo.layers.attention import AttentionShape
from octavo.layers.rope import RopeSpec, rope_spec
from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import NameMap, Source
from octavo.models.config_fields import decoder_config_from_gguf, field, rope_parameters, size
from octavo.models.decoder import AttentionSpec, DecoderSpec, GatedMLPSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, plus_one

WINDOW_PATTERN = 6
"""Every sixth layer attends to everything."""
LOCAL_ROPE_THETA = 10_000.0


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    if config.get("use_bidirectional_attention"):
        raise UnsupportedModelError("use_bidirectional_attention (an embedding model) is not built yet")
    hidden_size = size(config, "hidden_size")
    num_layers = size(config, "num_hidden_layers", most=1024)
    head_dim = size(config, "head_dim", 256)
    max_position = size(config, "max_position_embeddings", 131_072)
    window = size(config, "sliding_window", 4096)
    global_rope, local_rope = _ropes(config, head_dim, max_position)
    pattern = size(config, "sliding_window_pattern", config.get("_sliding_window_pattern") or WINDOW_PATTERN)
    default_types = [
        "full_attention" if (index + 1) % pattern == 0 else "sliding_attention" for index in range(num_layers)
    ]

    def layer(kind: str) -> LayerSpec:
        is_local = kind == "sliding_attention"
        return LayerSpec(
            mixer=AttentionSpec(
                shape=AttentionShape(
                    num_heads=size(config, "num_attention_heads"),
                    num_kv_heads=size(config, "num_key_value_heads"),
                    head_dim=head_dim,
                    scale=field(config, "query_pre_attn_scalar", float, 256.0) ** -0.5,
                    window=window if is_local else None,
                    softcap=field(config, "attn_logit_softcapping", float, 0.0),
                ),
                rope=local_rope if is_local else global_rope,
                has_qkv_bias=field(config, "attention_bias", bool, False),
                has_output_bias=field(config, "attention_bias", bool, False),
                has_qk_norm=True,
            ),
            ffn=GatedMLPSpec(
                intermediate_size=size(config, "intermediate_size"),
                activation=field(config, "hidden_activation", str, "gelu_pytorch_tanh"),
            ),
            has_post_norms=True,
        )

    types = config.get("layer_types") or default_types
    return DecoderSpec(
        vocab_size=size(config, "vocab_size", 262_208),
        hidden_size=hidden_size,
        max_position=max_position,
        norm_eps=field(config, "rms_norm_eps", float, 1e-6),
        layers=tuple(layer(kind) for kind in types),
        has_tied_embeddings=field(config, "tie_word_embeddings", bool, True),
        embedding_scale=hidden_size**0.5,
        logit_softcap=field(config, "final_logit_softcapping", float, 0.0),
    )


def _ropes(config: Mapping[str, Any], head_dim: int, max_position: int) -> tuple[RopeSpec, RopeSpec]:
    """The rotary embeddings of full and of windowed layers; only the full ones' is scaled."""
    parameters = config.get("rope_parameters") or {}
    if "full_attention" in parameters:
        full, local = parameters["full_attention"], parameters["sliding_attention"]
    else:
        full = rope_parameters({"rope_theta": 1_000_000.0, **config})
        local = {"rope_theta": config.get("rope_local_base_freq", LOCAL_ROPE_THETA)}
    return rope_spec(head_dim, full, max_position), rope_spec(head_dim, local, max_position)


_NORMS = {
    "norm.weight": "model.norm.weight",
    "layers.{}.mixer_norm.weight": "model.layers.{}.input_layernorm.weight",
    "layers.{}.post_mixer_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "layers.{}.ffn_norm.weight": "model.layers.{}.pre_feedforward_layernorm.weight",
    "layers.{}.post_ffn_norm.weight": "model.layers.{}.post_feedforward_layernorm.weight",
    "layers.{}.mixer.q_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "layers.{}.mixer.k_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
}
WEIGHTS: NameMap = {**DECODER_WEIGHTS, **{parameter: Source(name, plus_one) for parameter, name in _NORMS.items()}}
"""Norms are stored as w and multiply by 1 + w; GGUF files hold 1 + w already."""

GGUF_WEIGHTS: NameMap = {
    **GGUF_DECODER_WEIGHTS,
    "layers.{}.post_mixer_norm.weight": Source("blk.{}.post_attention_norm.weight"),
    "layers.{}.post_ffn_norm.weight": Source("blk.{}.post_ffw_norm.weight"),
}


def config_from_gguf(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """GGUF leaves out what all Gemma 3 models share; the 27B alone scales attention by its hidden size."""
    config = decoder_config_from_gguf(checkpoint.metadata, "gemma3")
    is_27b = config.get("num_hidden_layers") == 62
    query_scalar = config["hidden_size"] // config["num_attention_heads"] if is_27b else config["head_dim"]
    return {
        **config,
        "sliding_window": checkpoint.metadata.get("gemma3.attention.sliding_window"),
        "query_pre_attn_scalar": query_scalar,
        "final_logit_softcapping": checkpoint.metadata.get("gemma3.final_logit_softcapping"),
    }


FAMILY = ModelFamily(
    name="Gemma 3",
    architectures=("Gemma3ForCausalLM",),
    gguf_architectures=("gemma3",),
    spec=spec,
    weights=WEIGHTS,
    gguf_weights=lambda spec: GGUF_WEIGHTS,
    config_from_gguf=config_from_gguf,
)
