"""SmolLM2 and Gemma 3 270M, from their GGUF files, against `transformers` with the weights dequantised to fp32."""

import gc
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from models.parity import assert_greedy_equal, assert_logprobs_close, reference_logits

from octavo import LLM, SamplingParams

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "1, 1, 2, 3, 5, 8, 13,",
    "Q: What is the boiling point of water?\nA:",
    "import numpy as np\n\nx = np.",
    "In the beginning",
    "The quick brown fox",
    "To be, or not to be: that is",
    "Die Hauptstadt von Deutschland ist",
    "La vie est",
    "東京は",
    "The three primary colours are",
    "Dear Sir or Madam,\n\n",
    "SELECT name FROM users WHERE",
    "E = mc^2 means that",
    "She opened the door and",
    "<html>\n<head>\n",
    "A list of fruits:\n- apple\n- banana\n-",
    "🙂 means",
]


@pytest.mark.parametrize(("alias", "long_prompt"), [("smollm2", 300), ("gemma3-270m", 700)])
def test_parity(alias: str, long_prompt: int, real_model: Callable[[str], Path]) -> None:
    """20 prompts × 64 greedy tokens; then a prompt longer than a chunk and, for Gemma, than its window."""
    path = real_model(alias)
    options = {"kv_cache_memory": "256M", "max_model_len": 2048, "dtype": "float32", "linear_activations": "native"}
    with LLM(str(path), max_num_batched_tokens=256, **options) as llm:
        outputs = llm.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=64, ignore_eos=True))
        rng = random.Random(2)
        ids = [rng.randrange(1000, 20_000) for _ in range(long_prompt)]
        [scored] = llm.generate(ids, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, prompt_logprobs=20))
    gc.collect()
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype="float32"
    ).eval()
    for output in [*outputs, scored]:
        logits = reference_logits(reference, output.prompt_token_ids + output.outputs[0].token_ids)
        assert_greedy_equal(output, logits)
    assert scored.prompt_logprobs is not None
    assert_logprobs_close(scored.prompt_logprobs, logits)


def test_paris(real_model: Callable[[str], Path]) -> None:
    """The chat's first token is a near tie: activations of a byte may turn it."""
    with LLM(str(real_model("smollm2")), kv_cache_memory="256M", max_model_len=2048) as llm:
        [answer] = llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=5))
        assert "Paris" in answer.outputs[0].text
    options = {"kv_cache_memory": "256M", "max_model_len": 2048, "linear_activations": "native"}
    with LLM(str(real_model("smollm2")), **options) as llm:
        [chat] = llm.chat(
            [{"role": "user", "content": "What is the capital of France?"}], SamplingParams(temperature=0)
        )
        assert chat.outputs[0].text == "The capital of France is Paris."
        assert chat.outputs[0].finish_reason == "stop"
