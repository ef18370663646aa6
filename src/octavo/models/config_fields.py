"""Reading config.json and GGUF metadata: typed fields, and errors that name the one at fault."""

from collections.abc import Mapping
from typing import Any, TypeVar

from octavo.core.errors import ModelFileError

T = TypeVar("T", int, float, bool, str)
_MISSING: Any = object()


def field(config: Mapping[str, Any], name: str, kind: type[T], default: Any = _MISSING) -> T:
    """`config[name]` as a `kind`; the default where it is absent or null. Raises `ModelFileError`."""
    value = config.get(name)
    if value is None:
        if default is _MISSING:
            raise ModelFileError(f"the model's config has no {name}; a {kind.__name__} is needed", param=name)
        return default
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelFileError(f"the model's config has {name}={value!r}; a {kind.__name__} is needed", param=name)
    return value


def size(config: Mapping[str, Any], name: str, default: Any = _MISSING, *, most: int = 1 << 24) -> int:
    """A positive integer of at most `most`."""
    value = field(config, name, int, default)
    if not 0 < value <= most:
        raise ModelFileError(f"the model's config has {name}={value}; allowed are 1 … {most}", param=name)
    return value


def decoder_config_from_gguf(metadata: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """The fields that decoder-only GGUF files share, under config.json's names."""

    def read(name: str) -> Any:
        return metadata.get(f"{architecture}.{name}")

    heads = read("attention.head_count")
    hidden_size = read("embedding_length")
    head_dim = read("attention.key_length")
    if head_dim is None and isinstance(heads, int) and isinstance(hidden_size, int) and heads > 0:
        head_dim = hidden_size // heads
    tokens = metadata.get("tokenizer.ggml.tokens")
    config = {
        "hidden_size": hidden_size,
        "num_hidden_layers": read("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": read("attention.head_count_kv") or heads,
        "head_dim": head_dim,
        "intermediate_size": read("feed_forward_length"),
        "max_position_embeddings": read("context_length"),
        "rms_norm_eps": read("attention.layer_norm_rms_epsilon"),
        "vocab_size": read("vocab_size") or (len(tokens) if tokens is not None else None),
        "rope_theta": read("rope.freq_base"),
        "rope_scaling": _rope_scaling_from_gguf(read),
    }
    return {name: value for name, value in config.items() if value is not None}


def _rope_scaling_from_gguf(read: Any) -> dict[str, Any] | None:
    rule = read("rope.scaling.type")
    if rule in (None, "none"):
        return None
    scaling = {
        "rope_type": rule,
        "factor": read("rope.scaling.factor"),
        "original_max_position_embeddings": read("rope.scaling.original_context_length"),
        "attention_factor": read("rope.scaling.attn_factor"),
    }
    return {name: value for name, value in scaling.items() if value is not None}


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`rope_parameters` as new checkpoints have it, or built from the older `rope_theta` and `rope_scaling`."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping):
        raise ModelFileError(f"the model's config has rope parameters {parameters!r}; an object is needed")
    theta = parameters.get("rope_theta", config.get("rope_theta"))
    return {**parameters, "rope_theta": theta}
