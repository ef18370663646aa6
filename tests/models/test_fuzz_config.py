"""Whatever a config holds: an error that names its cause, or a model that generates."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from checkpoints import TINY
from models.conftest import generate, load

from octavo.core.errors import OctavoError
from octavo.loader.checkpoint import Checkpoint, GGUFCheckpoint, SafetensorsCheckpoint
from octavo.models.decoder import DecoderSpec
from octavo.models.registry import read_spec

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 5, 7, 64, 513, 1 << 31, 1 << 64, 10**400, -(10**400),
    0.0, -0.0, 1e-320, 1e-45, 1e-7, 0.5, 1.0, 1.0000000000000002, 4.0, 1e38, 1e300, math.inf, -math.inf, math.nan,
    "", "x", "4", "silu", "gelu", "relu", "gelu_tanh", "linear", "llama3", "yarn", "dynamic", "none", "default",
    [], [1], [2, 2, 2], [1, 2, 3], [math.nan], ["full_attention"] * 3, ["sliding_attention"] * 3, [["x"]], [None] * 7,
    {}, {"a": 1}, {"rope_type": "linear"}, {"rope_theta": "x"}, {"full_attention": {}}, {"full_attention": 1},
    {"sliding_attention": {"rope_theta": 1e4}}, {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1},
]  # fmt: skip
NASTY_ARRAYS: list[Any] = [
    np.array([2, 2, 2], np.int32), np.array([4, 2, 2], np.int32), np.array([], np.int32), np.array([-1] * 3, np.int32),
    np.array([2.0, 2.0, 2.0]), np.array([True, False, True]), np.array([math.nan] * 3), ["a", "b"], [np.array([1])],
]  # fmt: skip
FIELDS = [
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "max_position_embeddings", "rms_norm_eps", "vocab_size", "attention_bias", "mlp_bias", "hidden_act",
    "hidden_activation", "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq",
    "partial_rotary_factor", "layer_types", "use_sliding_window", "sliding_window", "max_window_layers",
    "sliding_window_pattern", "_sliding_window_pattern", "query_pre_attn_scalar", "attn_logit_softcapping",
    "final_logit_softcapping", "use_bidirectional_attention", "rope_frequency_divisors",
]  # fmt: skip
ROPE_FIELDS = [
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor",
    "high_freq_factor", "beta_fast", "beta_slow", "truncate", "attention_factor", "mscale", "mscale_all_dim",
    "partial_rotary_factor",
]  # fmt: skip
GGUF_FIELDS = [
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.causal", "vocab_size",
    "attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.sliding_window_pattern",
    "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "rope.scale_linear", "final_logit_softcapping", "expert_count",
]  # fmt: skip


class Outcomes:
    """Tries configs; a model that was built before is not run again."""

    def __init__(self) -> None:
        self.num_refused = 0
        self._seen: set[DecoderSpec] = set()

    @property
    def num_built(self) -> int:
        return len(self._seen)

    def attempt(self, checkpoint: Checkpoint, case: object) -> None:
        try:
            spec = read_spec(checkpoint)
            if spec in self._seen:
                return
            decoder = load(checkpoint)
        except OctavoError as error:
            assert str(error)
            self.num_refused += 1
            return
        except BaseException as error:
            raise AssertionError(f"{case!r:.300}: {type(error).__name__}: {error}") from error
        self._seen.add(spec)
        try:
            generate(decoder)
        except BaseException as error:
            raise AssertionError(f"{case!r:.300} loads, and then: {type(error).__name__}: {error}") from error


def edits_of_config(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for name in FIELDS:
        for value in NASTY:
            yield name, value, {**config, name: value}
    rope = config["rope_parameters"]
    kinds = [kind for kind in ("full_attention", "sliding_attention") if kind in rope]
    for name in ROPE_FIELDS:
        for value in NASTY:
            yield name, value, {**config, "rope_parameters": {**rope, name: value}}
            for kind in kinds:
                edited = {**rope, kind: {**rope[kind], name: value}}
                yield f"{kind}.{name}", value, {**config, "rope_parameters": edited}


@pytest.mark.parametrize("name", ["llama-biased", "llama3-rope", "qwen2-yarn-window", "qwen3", "gemma3"])
def test_config_json(name: str, tiny: Callable[[str], Path]) -> None:
    assert name in TINY
    checkpoint = SafetensorsCheckpoint(tiny(name))
    config, outcomes = dict(checkpoint.config), Outcomes()
    for field, value, edited in edits_of_config(config):
        checkpoint.config = MappingProxyType(edited)
        outcomes.attempt(checkpoint, (field, value))
    rng = random.Random(0)
    for _ in range(200):
        edited = {**config, **{rng.choice(FIELDS): rng.choice(NASTY) for _ in range(3)}}
        checkpoint.config = MappingProxyType(edited)
        outcomes.attempt(checkpoint, edited)
    assert outcomes.num_refused > 500
    assert outcomes.num_built > 5


@pytest.mark.parametrize(
    ("name", "architecture"), [("llama-biased", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3"), ("gemma3", "gemma3")]
)
def test_gguf_metadata(name: str, architecture: str, tiny_gguf: Callable[..., Path]) -> None:
    checkpoint = GGUFCheckpoint(tiny_gguf(name, architecture))
    metadata, outcomes = dict(checkpoint.metadata), Outcomes()
    for field in GGUF_FIELDS:
        key = f"{architecture}.{field}"
        for value in NASTY + NASTY_ARRAYS:
            checkpoint.metadata = MappingProxyType({**metadata, key: value})
            outcomes.attempt(checkpoint, (key, value))
            if "scaling" in field:
                checkpoint.metadata = MappingProxyType(
                    {
                        **metadata,
                        f"{architecture}.rope.scaling.type": "yarn",
                        f"{architecture}.rope.scaling.factor": 4.0,
                        key: value,
                    }
                )
                outcomes.attempt(checkpoint, ("yarn", key, value))
    for value in NASTY + NASTY_ARRAYS:
        edited = {**metadata, "tokenizer.ggml.tokens": value}
        del edited[f"{architecture}.vocab_size"]
        checkpoint.metadata = MappingProxyType(edited)
        outcomes.attempt(checkpoint, ("tokenizer.ggml.tokens", value))
    assert outcomes.num_refused > 500
    assert outcomes.num_built > 3


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "1" + "0" * 400, "-0.0", "1e-400", "[" * 400 + "]" * 400])
def test_numbers_as_json_spells_them(text: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    source = tiny("gemma3")
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    outcomes = Outcomes()
    for field in ("hidden_size", "rms_norm_eps", "sliding_window", "query_pre_attn_scalar"):
        (tmp_path / "config.json").write_text(json.dumps({**config, field: "@"}).replace('"@"', text))
        outcomes.attempt(SafetensorsCheckpoint(tmp_path), (field, text))
    assert outcomes.num_refused == 4
