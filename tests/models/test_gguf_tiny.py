"""Tiny checkpoints written as GGUF give what their safetensors give: the same bits in F32, the same tokens quantised."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TINY, VOCAB_SIZE, YARN_ROPE, Tiny
from models.gguf_writer import Edits, f32, mixed, round_weights, write_gguf

from octavo import LLM, SamplingParams
from octavo.core.outputs import RequestOutput

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
"""Rows of whole blocks of 32."""
GEMMA = {"num_hidden_layers": 7, "sliding_window": 13, "query_pre_attn_scalar": 16, "layer_types": None}


def variant(name: str, options: Mapping[str, Any] | None = None) -> Tiny:
    return replace(TINY[name], options={**TINY[name].options, **SIZES, **(options or {})})


MODELS: dict[str, tuple[str, Tiny]] = {
    "llama": ("llama", variant("llama")),
    "llama-biased": ("llama", variant("llama-biased", {"num_key_value_heads": 2})),
    "llama-rope-freqs": ("llama", variant("llama3-rope", {"tie_word_embeddings": True})),
    "llama-linear": ("llama", variant("linear-rope")),
    "qwen2": ("qwen2", variant("qwen2")),
    "qwen2-yarn": ("qwen2", variant("qwen2", {"rope_parameters": YARN_ROPE})),
    "qwen3": ("qwen3", variant("qwen3", {"head_dim": 32})),
    "gemma3": ("gemma3", variant("gemma3", GEMMA | {"final_logit_softcapping": None})),
}
REWRITTEN = {"llama-rope-freqs"}
"""Where the file's frequencies are rounded once more than the config's."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    directories: dict[str, Path] = {}

    def path_of(name: str) -> Path:
        if name not in directories:
            directories[name] = MODELS[name][1].write(tmp_path_factory.mktemp(name))
        return directories[name]

    return path_of


def generate(path: Path) -> list[RequestOutput]:
    rng = random.Random(4)
    prompts = [[rng.randrange(VOCAB_SIZE) for _ in range(length)] for length in (1, 7, 40)]
    params = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=5)
    options = {"kv_cache_memory": "8M", "dtype": "float32", "linear_activations": "native"}
    with LLM(str(path), skip_tokenizer_init=True, threads=1, **options) as llm:
        return llm.generate(prompts, params)


def tokens(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def logprobs(outputs: list[RequestOutput]) -> list[float]:
    found = []
    for output in outputs:
        assert output.outputs[0].logprobs is not None
        for entries in output.outputs[0].logprobs:
            found += [entries[token].logprob for token in sorted(entries)]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_f32_is_the_same_model(name: str, written: Callable[[str], Path], tmp_path: Path) -> None:
    expected = generate(written(name))
    found = generate(write_gguf(written(name), tmp_path / "model.gguf", MODELS[name][0], f32))
    assert tokens(found) == tokens(expected)
    if name in REWRITTEN:
        assert logprobs(found) == pytest.approx(logprobs(expected), abs=1e-4)
    else:
        assert logprobs(found) == logprobs(expected)


@pytest.mark.parametrize("name", MODELS)
def test_quantised_is_the_rounded_model(name: str, written: Callable[[str], Path], tmp_path: Path) -> None:
    architecture = MODELS[name][0]
    expected = generate(round_weights(written(name), tmp_path / "rounded", architecture, mixed))
    found = generate(write_gguf(written(name), tmp_path / "model.gguf", architecture, mixed))
    assert tokens(found) == tokens(expected)
    assert logprobs(found) == pytest.approx(logprobs(expected), abs=1e-4)


def test_biases_are_read_one_by_one(written: Callable[[str], Path], tmp_path: Path) -> None:
    """A llama file with biases on q, k and v alone loads, and is another model than one with all of them."""
    names = ("attn_output", "ffn_gate", "ffn_up", "ffn_down")
    left_out = tuple(f"blk.{layer}.{name}.bias" for layer in range(3) for name in names)
    source = written("llama-biased")
    some = generate(write_gguf(source, tmp_path / "model.gguf", "llama", edits=Edits(left_out=left_out)))
    assert logprobs(some) != logprobs(generate(source))
