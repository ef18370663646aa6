"""Tiny random checkpoints against `transformers` in fp32: chunks, prefix hits, batches, windows."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from checkpoints import TINY, VOCAB_SIZE
from models.parity import assert_greedy_equal, assert_logprobs_close, reference_logits

from octavo import LLM, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)


def prompts() -> list[list[int]]:
    rng = random.Random(1)
    shared = [rng.randrange(VOCAB_SIZE) for _ in range(40)]
    own = [[rng.randrange(VOCAB_SIZE) for _ in range(length)] for length in (1, 5, 16, 33, 120)]
    return [*own, shared + own[1], shared + own[2], shared]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("budget", [2048, 11])
def test_greedy_tokens_and_logits(name: str, budget: int, tiny: Callable[[str], Path]) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(tiny(name), dtype="float32").eval()
    options = {"kv_cache_memory": "16M", "dtype": "float32", "linear_activations": "native"}
    with LLM(str(tiny(name)), skip_tokenizer_init=True, max_num_batched_tokens=budget, **options) as llm:
        outputs = llm.generate(prompts(), GREEDY) + llm.generate(prompts(), GREEDY)
        scored = llm.generate(prompts()[4], SamplingParams(max_tokens=1, prompt_logprobs=20))
    assert sum(output.num_cached_tokens > 0 for output in outputs) >= 5
    for output in outputs:
        assert len(output.outputs[0].token_ids) == 64
        assert_greedy_equal(output, reference_logits(reference, output.prompt_token_ids + output.outputs[0].token_ids))
    [score] = scored
    assert score.prompt_logprobs is not None
    assert len(score.prompt_logprobs) == len(score.prompt_token_ids)
    assert_logprobs_close(score.prompt_logprobs, reference_logits(reference, score.prompt_token_ids))
