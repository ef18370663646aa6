"""Tiny random checkpoints of every family, written by `transformers`, and the real models by alias."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from octavo.config.env import cache_directory
from octavo.core.errors import ModelNotFoundError
from octavo.loader.fetch import resolve_model

VOCAB_SIZE = 160
MAX_POSITION = 256
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_POSITION,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Tiny:
    """A checkpoint to write: the `transformers` config class and what it is given."""

    config: str
    model: str
    options: dict[str, Any]

    def write(self, directory: Path) -> Path:
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**{**SIZES, **self.options})
        model = getattr(transformers, self.model)(config)
        for name, parameter in model.named_parameters():  # norms and biases that matter
            if "norm" in name or name.endswith("bias"):
                torch.nn.init.normal_(
                    parameter, mean=0.0 if name.endswith("bias") else parameter.mean().item(), std=0.3
                )
            else:
                torch.nn.init.normal_(parameter, std=0.15)
        model.save_pretrained(directory)
        return directory


CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 64}

TINY: dict[str, Tiny] = {
    "llama": Tiny("LlamaConfig", "LlamaForCausalLM", {}),
    "llama-biased": Tiny(
        "LlamaConfig",
        "LlamaForCausalLM",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 10,
            "tie_word_embeddings": True,
            "num_key_value_heads": 4,
        },
    ),
    "llama3-rope": Tiny("LlamaConfig", "LlamaForCausalLM", {"rope_parameters": LLAMA3_ROPE}),
    "linear-rope": Tiny(
        "LlamaConfig",
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}, "num_key_value_heads": 1},
    ),
    "qwen2": Tiny("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen2-yarn-window": Tiny(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {
            "rope_parameters": YARN_ROPE,
            "use_sliding_window": True,
            "sliding_window": 21,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3": Tiny("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 14}),
    "gemma3": Tiny(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            "num_hidden_layers": 7,
            "head_dim": 18,
            "sliding_window": 13,
            "query_pre_attn_scalar": 24,
            "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2 + ["sliding_attention"],
            "attn_logit_softcapping": None,
            "final_logit_softcapping": 9.0,
        },
    ),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name in `TINY` → its directory, written once a session."""
    written: dict[str, Path] = {}

    def path_of(name: str) -> Path:
        if name not in written:
            written[name] = TINY[name].write(tmp_path_factory.mktemp(name))
        return written[name]

    return path_of


@pytest.fixture(scope="session")
def tiny_with_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that reads and writes text: a byte-level tokenizer of 512 tokens, the third of which ends an answer."""
    directory = tmp_path_factory.mktemp("llama-with-tokenizer")
    Tiny("LlamaConfig", "LlamaForCausalLM", {"vocab_size": 512}).write(directory)
    backend = Backend(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((Path(__file__).parent / "data/harbour.txt").read_text().splitlines(), trainer)
    backend.save(str(directory / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": CHAT_TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """Alias → its file, fetched if need be; skips, saying why, where it cannot be had."""

    def path_of(alias: str) -> Path:
        try:
            return resolve_model(alias, cache_dir=cache_directory())
        except ModelNotFoundError as error:
            pytest.skip(f"{alias} cannot be had here: {error}")

    return path_of
