"""A tiny model with work small enough for it."""

from pathlib import Path

import pytest
from checkpoints import Tiny

from octavo.bench.techniques.subject import Subject, open_subject
from octavo.config import EngineConfig

SIZES = {
    "prompt_len": 24,
    "output_len": 8,
    "num_requests": 7,
    "max_num_seqs": 3,
    "long_prompt_len": 700,
    "prefix_len": 64,
}
BUDGET = 128
CONTEXT = 1024


@pytest.fixture(scope="session")
def long_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny, but for its context."""
    options = {"max_position_embeddings": CONTEXT}
    return Tiny("LlamaConfig", "LlamaForCausalLM", options).write(tmp_path_factory.mktemp("long-llama"))


@pytest.fixture(scope="session")
def subject(long_llama: Path) -> Subject:
    """Of int8 weights, so that every technique can be shown."""
    return make_subject(long_llama, quantization="int8")


def make_subject(model: Path, **options: object) -> Subject:
    defaults = {"kv_cache_memory": "8M", "max_num_batched_tokens": BUDGET, "threads": 1}
    return open_subject(EngineConfig(model=str(model), **{**defaults, **options}), SIZES)  # type: ignore[arg-type]
