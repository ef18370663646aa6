"""`quantization="int8"` end to end: law 2, and what the options say of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, SamplingParams, ops
from octavo.config.engine_config import EngineConfig
from octavo.core.errors import ConfigError

PROMPTS = [[3, 4, 5], [7] * 40, list(range(20, 37)), [9]]
OPTIONS: dict[str, Any] = {
    "kv_cache_memory": "4M",
    "max_model_len": 64,
    "skip_tokenizer_init": True,
    "quantization": "int8",
}


def answers(model: Path, prompts: list[list[int]], **options: Any) -> list[Any]:
    params = SamplingParams(temperature=0.0, max_tokens=6, logprobs=2, ignore_eos=True)
    with LLM(str(model), **(OPTIONS | options)) as llm:
        outputs = llm.generate(prompts, params)
    return [[(sample.token_ids, sample.logprobs) for sample in output.outputs] for output in outputs]


@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_a_request_does_not_know_its_batch(kind: str, tiny: Callable[[str], Path]) -> None:
    if kind == "bf16" and not ops.has_bf16_tiles():
        pytest.skip("this processor has no AMX")
    model, activations = tiny("llama"), {"linear_activations": kind}
    alone = [answers(model, [prompt], enable_prefix_caching=False, **activations)[0] for prompt in PROMPTS]
    assert answers(model, PROMPTS, **activations) == alone
    assert answers(model, PROMPTS, max_num_batched_tokens=7, threads=1, **activations) == alone
    assert answers(model, PROMPTS, enforce_eager=True, **activations) == alone
    assert answers(model, PROMPTS, quantization=None) != alone


def test_other_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="quantization='int3' is not one of int8"):
        EngineConfig(quantization="int3")
