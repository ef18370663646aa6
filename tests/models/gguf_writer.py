"""Tiny checkpoints of `transformers` as GGUF files, laid out as llama.cpp's converter does."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float32]
ToType = Callable[[str], gguf.GGMLQuantizationType]

_ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_IN_GEMMA_LAYER = _IN_LAYER | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


@dataclass(frozen=True)
class Edits:
    """What to write otherwise than the checkpoint has it."""

    metadata: Mapping[str, Any] | None = None
    """Without the architecture's prefix; None leaves an entry out."""
    left_out: tuple[str, ...] = ()
    added: Mapping[str, Array] | None = None


def f32(name: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType.F32


def mixed(name: str) -> gguf.GGMLQuantizationType:
    """Q8_0 and Q4_0 side by side in one attention, as mixed quantisations have it."""
    types = gguf.GGMLQuantizationType
    return types.Q4_0 if "attn_k." in name or "ffn_up." in name else types.Q8_0


def write_gguf(
    directory: Path, target: Path, architecture: str, to_type: ToType = f32, edits: Edits | None = None
) -> Path:
    """`directory`'s checkpoint as the file `target`; matrices in the type that `to_type` gives their names."""
    edits = edits or Edits()
    config = json.loads((directory / "config.json").read_text())
    writer = gguf.GGUFWriter(str(target), architecture)
    for name, value in (_metadata(config, architecture) | dict(edits.metadata or {})).items():
        _add(writer, f"{architecture}.{name}", value)
    tensors = _tensors(load_file(directory / "model.safetensors"), config, architecture)
    if divisors := _rope_divisors(config):
        tensors["rope_freqs.weight"] = np.array(divisors, np.float32)
    for name, values in (tensors | dict(edits.added or {})).items():
        if name in edits.left_out:
            continue
        kind = to_type(name) if values.ndim == 2 else f32(name)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def round_weights(directory: Path, target: Path, architecture: str, to_type: ToType) -> Path:
    """The checkpoint with every matrix as it reads after quantisation, still in F32."""
    config = json.loads((directory / "config.json").read_text())
    rounded = {}
    for name, values in load_file(directory / "model.safetensors").items():
        rounded[name] = values
        if values.ndim == 2:
            kind = to_type(_gguf_name(name, architecture))
            rounded[name] = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    save_file(rounded, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)


def _metadata(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    metadata: dict[str, Any] = {
        "vocab_size": config["vocab_size"],
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if architecture == "llama":
        metadata["rope.dimension_count"] = head_dim
    if architecture == "gemma3":
        metadata["attention.sliding_window"] = config["sliding_window"]
    if rope["rope_type"] in ("linear", "yarn"):
        metadata["rope.scaling.type"] = rope["rope_type"]
        metadata["rope.scaling.factor"] = float(rope["factor"])
        metadata["rope.scaling.original_context_length"] = rope.get("original_max_position_embeddings")
    return metadata


def _gguf_name(name: str, architecture: str) -> str:
    if name in _ENDS:
        return _ENDS[name]
    _, _, layer, *middle, last = name.split(".")
    names = _IN_GEMMA_LAYER if architecture == "gemma3" else _IN_LAYER
    return f"blk.{layer}.{names['.'.join(middle)]}.{last}"


def _tensors(tensors: Mapping[str, Array], config: Mapping[str, Any], architecture: str) -> dict[str, Array]:
    written = {}
    for name, values in tensors.items():
        target = _gguf_name(name, architecture)
        if architecture == "gemma3" and "norm" in name:
            values = values + np.float32(1)
        if architecture == "llama" and (".attn_q." in target or ".attn_k." in target):
            num_heads = config["num_attention_heads" if ".attn_q." in target else "num_key_value_heads"]
            halves = values.reshape(num_heads, 2, values.shape[0] // num_heads // 2, *values.shape[1:])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        written[target] = np.ascontiguousarray(values)
    return written


def _rope_divisors(config: Mapping[str, Any]) -> list[float]:
    """Llama 3.1's scaling, frequency by frequency."""
    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return []
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    divisors = []
    for index in range(0, dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        blend = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / ((1 - blend) / rope["factor"] + blend))
    return divisors
