"""GGUF metadata of decoder-only models, under config.json's names."""

from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

import numpy as np

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.layers.rope import RopeRule
from octavo.models.config_fields import MAX_LAYERS, field, number, size

_ROPE_RULES = {"linear": RopeRule.LINEAR, "yarn": RopeRule.YARN}
"""llama.cpp's `rope.scaling.type` → config.json's; «none» is a third."""


class GGUFFields:
    """The metadata «<architecture>.<name>», typed."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        self._metadata = metadata
        self._architecture = architecture

    def key(self, name: str) -> str:
        return f"{self._architecture}.{name}"

    def raw(self, name: str) -> Any:
        return self._metadata.get(self.key(name))

    def size(self, name: str, default: Any = None, *, most: int = 1 << 24) -> Any:
        """An integer of 1 … `most`, or the default."""
        return default if self.raw(name) is None else size(self._metadata, self.key(name), most=most)

    def needed_size(self, name: str, *, most: int = 1 << 24) -> int:
        return size(self._metadata, self.key(name), most=most)

    def number(self, name: str, *, least: float, most: float) -> float | None:
        return None if self.raw(name) is None else number(self._metadata, self.key(name), least=least, most=most)

    def per_layer_size(self, name: str, num_layers: int, default: Any = None) -> Any:
        """One integer for all layers, given once or as an array of equals. Raises `UnsupportedModelError` if they differ."""
        value, key = self.raw(name), self.key(name)
        if not isinstance(value, (list, np.ndarray)):
            return self.size(name, default)
        values = list(value)
        if len(values) != num_layers or not all(isinstance(item, np.integer) for item in values):
            raise ModelFileError(
                f"the model's metadata has {key}={shown(values)}; an integer, or one for each of the {num_layers} "
                "layers, is needed; convert the model again",
                param=key,
            )
        if len(set(values)) > 1:
            raise UnsupportedModelError(
                f"{key}={shown([int(item) for item in values])}: layers of different sizes are not built yet", param=key
            )
        return size({key: int(values[0])}, key)

    def refuse(self, name: str, kind: type[int] | type[float] | type[bool], allowed: Any, what: str) -> None:
        """Raise `UnsupportedModelError` where the entry is there and is not `allowed`."""
        value = field(self._metadata, self.key(name), kind, allowed)
        if value != allowed:
            raise UnsupportedModelError(
                f"{self.key(name)}={value}: {what} is not built yet; {allowed} is", param=self.key(name)
            )


def decoder_config_from_gguf(
    metadata: Mapping[str, Any], architecture: str, *, has_windows: bool = False
) -> dict[str, Any]:
    """The fields that decoder-only files share. Raises `UnsupportedModelError` for what would change the arithmetic."""
    fields = GGUFFields(metadata, architecture)
    num_layers = fields.needed_size("block_count", most=MAX_LAYERS)
    hidden_size = fields.needed_size("embedding_length")
    heads = fields.per_layer_size("attention.head_count", num_layers)
    if heads is None:
        heads = fields.needed_size("attention.head_count")
    head_dim = fields.size("attention.key_length", hidden_size // heads)
    max_position = fields.needed_size("context_length")
    fields.refuse("expert_count", int, 0, "a mixture of experts")
    fields.refuse("attention.value_length", int, head_dim, "a value size other than the key size")
    fields.refuse("rope.dimension_count", int, head_dim, "rotating a part of each head")
    fields.refuse("attention.causal", bool, True, "attention to later tokens")
    window = None if has_windows else fields.size("attention.sliding_window")
    if window is not None and window < max_position:
        raise UnsupportedModelError(
            f"{fields.key('attention.sliding_window')}={window}: a window is not built for {architecture} in GGUF files",
            param=fields.key("attention.sliding_window"),
        )
    tokens = metadata.get("tokenizer.ggml.tokens")
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": fields.per_layer_size("attention.head_count_kv", num_layers, heads),
        "head_dim": head_dim,
        "intermediate_size": fields.per_layer_size("feed_forward_length", num_layers),
        "max_position_embeddings": max_position,
        "rms_norm_eps": number(metadata, fields.key("attention.layer_norm_rms_epsilon"), least=1e-30, most=1.0),
        "vocab_size": fields.size("vocab_size", len(tokens) if isinstance(tokens, list) else None),
        "rope_theta": fields.number("rope.freq_base", least=1.0, most=1e12),
        "rope_scaling": _rope_scaling(metadata, fields),
    }


def _rope_scaling(metadata: Mapping[str, Any], fields: GGUFFields) -> dict[str, Any] | None:
    key = fields.key("rope.scaling.type")
    factor = fields.number("rope.scaling.factor", least=0.0, most=1e6)
    if factor is None:
        factor = fields.number("rope.scale_linear", least=0.0, most=1e6)  # what older files call it
    rule = field(metadata, key, str, "linear" if factor else "none")
    if rule == "none":
        return None
    if rule not in _ROPE_RULES:
        raise UnsupportedModelError(
            f"{key}={shown(rule)} is not built yet; none, {', '.join(_ROPE_RULES)} are", param=key
        )
    fields.refuse("rope.scaling.attn_factor", float, 1.0, "an attention factor of its own")
    fields.refuse("rope.scaling.yarn_attn_factor", float, 1.0, "an attention factor of its own")
    fields.refuse("rope.scaling.yarn_ext_factor", float, 1.0, "a mix of scaling rules")
    return {
        "rope_type": _ROPE_RULES[rule].value,
        "factor": factor,
        "original_max_position_embeddings": fields.size("rope.scaling.original_context_length"),
        "beta_fast": fields.number("rope.scaling.yarn_beta_fast", least=1e-3, most=1e6),
        "beta_slow": fields.number("rope.scaling.yarn_beta_slow", least=1e-3, most=1e6),
    }
