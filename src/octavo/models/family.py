"""What a model family is to the rest of Octavo, and the names that most checkpoints share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from octavo.loader.checkpoint import Checkpoint
from octavo.loader.parameters import NameMap, Source
from octavo.models.decoder import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """The plug point: one a file, listed in the registry."""

    name: str
    architectures: tuple[str, ...]
    """As config.json names them."""
    gguf_architectures: tuple[str, ...]
    spec: Callable[[Mapping[str, Any]], DecoderSpec]
    """From config.json."""
    spec_from_gguf: Callable[[Checkpoint], DecoderSpec]
    weights: NameMap
    """Names in safetensors checkpoints."""
    gguf_weights: Callable[[DecoderSpec], NameMap]
    gguf_spec_tensors: frozenset[str] = frozenset()
    """Tensors that `spec_from_gguf` reads, which are no parameters."""


def _named(names: Mapping[str, str]) -> dict[str, Source]:
    return {parameter: Source(name) for parameter, name in names.items()}


DECODER_WEIGHTS: NameMap = _named(
    {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
        "layers.{}.mixer_norm.weight": "model.layers.{}.input_layernorm.weight",
        "layers.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
        "layers.{}.mixer.q.weight": "model.layers.{}.self_attn.q_proj.weight",
        "layers.{}.mixer.k.weight": "model.layers.{}.self_attn.k_proj.weight",
        "layers.{}.mixer.v.weight": "model.layers.{}.self_attn.v_proj.weight",
        "layers.{}.mixer.o.weight": "model.layers.{}.self_attn.o_proj.weight",
        "layers.{}.mixer.q.bias": "model.layers.{}.self_attn.q_proj.bias",
        "layers.{}.mixer.k.bias": "model.layers.{}.self_attn.k_proj.bias",
        "layers.{}.mixer.v.bias": "model.layers.{}.self_attn.v_proj.bias",
        "layers.{}.mixer.o.bias": "model.layers.{}.self_attn.o_proj.bias",
        "layers.{}.mixer.q_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
        "layers.{}.mixer.k_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
        "layers.{}.ffn.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
        "layers.{}.ffn.up.weight": "model.layers.{}.mlp.up_proj.weight",
        "layers.{}.ffn.down.weight": "model.layers.{}.mlp.down_proj.weight",
        "layers.{}.ffn.gate.bias": "model.layers.{}.mlp.gate_proj.bias",
        "layers.{}.ffn.up.bias": "model.layers.{}.mlp.up_proj.bias",
        "layers.{}.ffn.down.bias": "model.layers.{}.mlp.down_proj.bias",
    }
)
"""Hugging Face's names of a Llama-like decoder; a family overrides what it calls otherwise."""

GGUF_DECODER_WEIGHTS: NameMap = _named(
    {
        "embedding.weight": "token_embd.weight",
        "norm.weight": "output_norm.weight",
        "head.weight": "output.weight",
        "layers.{}.mixer_norm.weight": "blk.{}.attn_norm.weight",
        "layers.{}.ffn_norm.weight": "blk.{}.ffn_norm.weight",
        "layers.{}.mixer.q.weight": "blk.{}.attn_q.weight",
        "layers.{}.mixer.k.weight": "blk.{}.attn_k.weight",
        "layers.{}.mixer.v.weight": "blk.{}.attn_v.weight",
        "layers.{}.mixer.o.weight": "blk.{}.attn_output.weight",
        "layers.{}.mixer.q.bias": "blk.{}.attn_q.bias",
        "layers.{}.mixer.k.bias": "blk.{}.attn_k.bias",
        "layers.{}.mixer.v.bias": "blk.{}.attn_v.bias",
        "layers.{}.mixer.o.bias": "blk.{}.attn_output.bias",
        "layers.{}.mixer.q_norm.weight": "blk.{}.attn_q_norm.weight",
        "layers.{}.mixer.k_norm.weight": "blk.{}.attn_k_norm.weight",
        "layers.{}.ffn.gate.weight": "blk.{}.ffn_gate.weight",
        "layers.{}.ffn.up.weight": "blk.{}.ffn_up.weight",
        "layers.{}.ffn.down.weight": "blk.{}.ffn_down.weight",
        "layers.{}.ffn.gate.bias": "blk.{}.ffn_gate.bias",
        "layers.{}.ffn.up.bias": "blk.{}.ffn_up.bias",
        "layers.{}.ffn.down.bias": "blk.{}.ffn_down.bias",
    }
)
"""llama.cpp's names of the same."""


IGNORED_TENSORS = ("*.rotary_emb.inv_freq", "*.masked_bias", "*.attn.bias", "*.position_ids")
"""Buffers that older checkpoints saved with their weights: tables and masks that are made anew."""


def with_head_of_file(spec: DecoderSpec, checkpoint: Checkpoint) -> DecoderSpec:
    """A GGUF file's head is tied to its embedding exactly where it has none of its own."""
    name = GGUF_DECODER_WEIGHTS["head.weight"].name
    return replace(spec, has_tied_embeddings=name not in checkpoint.tensor_names)


def plus_one(weight_C: Tensor) -> Tensor:
    """A norm stored as w where the model multiplies by 1 + w."""
    return weight_C + torch.ones((), dtype=weight_C.dtype)


def unpermute(num_heads: int) -> Callable[[Tensor], Tensor]:
    """Undo the row order that GGUF gives llama's q and k: pairs (2i, 2i+1) back to halves (i, i + D/2)."""

    def rows(weight: Tensor) -> Tensor:
        half = weight.shape[0] // num_heads // 2
        return weight.unflatten(0, (num_heads, half, 2)).transpose(1, 2).flatten(0, 2).contiguous()

    return rows
