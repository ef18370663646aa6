"""Gemma 3 (text): five layers with a sliding window to one without, norms on both sides of every block."""

from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.layers.attention import AttentionShape, AttentionSpec
from octavo.layers.mlp import GatedMLPSpec
from octavo.layers.rope import RopeSpec
from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import NameMap, Source
from octavo.models.config_fields import (
    MAX_LAYERS,
    LayerKind,
    field,
    layer_kinds,
    norm_eps,
    number,
    section,
    size,
    softcap,
)
from octavo.models.decoder import DecoderSpec, LayerSpec
from octavo.models.family import DECODER_WEIGHTS, GGUF_DECODER_WEIGHTS, ModelFamily, plus_one, with_head_of_file
from octavo.models.gguf_fields import GGUFFields, decoder_config_from_gguf
from octavo.models.rope_fields import rope_parameters, rope_spec

WINDOW_PATTERN = 6
"""Every sixth layer attends to everything."""
GLOBAL_ROPE_THETA = 1_000_000.0
LOCAL_ROPE_THETA = 10_000.0
NUM_LAYERS_OF_27B = 62


def spec(config: Mapping[str, Any]) -> DecoderSpec:
    if config.get("use_bidirectional_attention") not in (None, False):
        raise UnsupportedModelError(
            "use_bidirectional_attention (an embedding model) is not built yet", param="use_bidirectional_attention"
        )
    hidden_size = size(config, "hidden_size")
    max_position = size(config, "max_position_embeddings", 131_072)
    has_bias = field(config, "attention_bias", bool, False)
    window = size(config, "sliding_window", 4096)
    head_dim = size(config, "head_dim", 256)
    global_rope, local_rope = _ropes(config, head_dim, max_position)

    def layer(kind: LayerKind) -> LayerSpec:
        is_local = kind is LayerKind.SLIDING
        return LayerSpec(
            mixer=AttentionSpec(
                shape=AttentionShape(
                    num_heads=size(config, "num_attention_heads"),
                    num_kv_heads=size(config, "num_key_value_heads"),
                    head_dim=head_dim,
                    scale=number(config, "query_pre_attn_scalar", 256.0, least=1e-3, most=1e6) ** -0.5,
                    window=window if is_local else None,
                    softcap=softcap(config, "attn_logit_softcapping"),
                ),
                rope=local_rope if is_local else global_rope,
                has_qkv_bias=has_bias,
                has_output_bias=has_bias,
                has_qk_norm=True,
            ),
            ffn=GatedMLPSpec(
                intermediate_size=size(config, "intermediate_size"),
                activation=field(config, "hidden_activation", str, "gelu_pytorch_tanh"),
            ),
            has_post_norms=True,
        )

    return DecoderSpec(
        vocab_size=size(config, "vocab_size", 262_208),
        hidden_size=hidden_size,
        max_position=max_position,
        norm_eps=norm_eps(config, 1e-6),
        layers=tuple(layer(kind) for kind in _kinds(config)),
        has_tied_embeddings=field(config, "tie_word_embeddings", bool, True),
        embedding_scale=hidden_size**0.5,
        logit_softcap=softcap(config, "final_logit_softcapping"),
    )


def _kinds(config: Mapping[str, Any]) -> list[LayerKind]:
    num_layers = size(config, "num_hidden_layers", most=MAX_LAYERS)
    pattern = size(config, "sliding_window_pattern", size(config, "_sliding_window_pattern", WINDOW_PATTERN))
    default = [LayerKind.SLIDING if (index + 1) % pattern else LayerKind.FULL for index in range(num_layers)]
    return layer_kinds(config, num_layers, default)


def _ropes(config: Mapping[str, Any], head_dim: int, max_position: int) -> tuple[RopeSpec, RopeSpec]:
    """The rotary embeddings of full and of windowed layers; in the older, flat form only the full ones' is scaled."""
    parameters = section(config, "rope_parameters")
    if not any(kind in parameters for kind in LayerKind):
        full = rope_parameters(config)
        local: Mapping[str, Any] = {
            "rope_theta": number(config, "rope_local_base_freq", LOCAL_ROPE_THETA, least=1.0, most=1e12)
        }
    elif all(section(parameters, kind) for kind in LayerKind):
        full = rope_parameters(config, LayerKind.FULL)
        local = rope_parameters({**config, "rope_theta": None}, LayerKind.SLIDING)
    else:
        raise ModelFileError(
            f"the model's config has rope_parameters={shown(parameters)}; an object for each of "
            f"{', '.join(LayerKind)} is needed; download the config again",
            param="rope_parameters",
        )
    return (
        rope_spec(head_dim, full, max_position, default_theta=GLOBAL_ROPE_THETA),
        rope_spec(head_dim, local, max_position, default_theta=LOCAL_ROPE_THETA),
    )


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


def spec_from_gguf(checkpoint: Checkpoint) -> DecoderSpec:
    """GGUF leaves out what all Gemma 3 models share; the 27B alone scales attention by its hidden size."""
    config = decoder_config_from_gguf(checkpoint.metadata, "gemma3", has_windows=True)
    fields = GGUFFields(checkpoint.metadata, "gemma3")
    is_27b = config["num_hidden_layers"] == NUM_LAYERS_OF_27B
    query_scalar = config["hidden_size"] // config["num_attention_heads"] if is_27b else config["head_dim"]
    extra = {
        "sliding_window": fields.needed_size("attention.sliding_window"),
        "sliding_window_pattern": fields.size("attention.sliding_window_pattern", most=MAX_LAYERS),
        "rope_local_base_freq": fields.number("rope.freq_base_swa", least=1.0, most=1e12),
        "query_pre_attn_scalar": query_scalar,
        "final_logit_softcapping": fields.raw("final_logit_softcapping"),
    }
    return with_head_of_file(spec({**config, **extra}), checkpoint)


FAMILY = ModelFamily(
    name="Gemma 3",
    architectures=("Gemma3ForCausalLM",),
    gguf_architectures=("gemma3",),
    spec=spec,
    spec_from_gguf=spec_from_gguf,
    weights=WEIGHTS,
    gguf_weights=lambda spec: GGUF_WEIGHTS,
)
