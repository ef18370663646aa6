"""Law 2, bitwise: token ids and log-probabilities do not depend on who shares the batch, on chunks, on the
prefix cache, on preemptions or on the number of threads."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import VOCAB_SIZE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo import LLM, RequestOutput, SamplingParams

POOL = "1M"
MODELS = ["gemma3", "qwen2-yarn-window", "llama-biased"]

Answer = tuple[Any, ...]


def answer(output: RequestOutput) -> Answer:
    """Everything of an output that the law speaks of."""
    samples = tuple(
        (
            tuple(sample.token_ids),
            tuple((token, entry.logprob, entry.rank) for row in sample.logprobs or () for token, entry in row.items()),
        )
        for sample in output.outputs
    )
    prompt = tuple(
        (token, entry.logprob, entry.rank)
        for row in output.prompt_logprobs or ()
        if row
        for token, entry in row.items()
    )
    return samples, prompt


def request(rng: random.Random, prefixes: list[list[int]]) -> tuple[list[int], SamplingParams]:
    prompt = rng.choice(prefixes)[: rng.randrange(0, 60)] if rng.random() < 0.6 else []
    prompt = prompt + [rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(1, 40))]
    greedy = rng.random() < 0.3
    params = SamplingParams(
        n=rng.choice([1, 1, 1, 2, 3]),
        temperature=0.0 if greedy else rng.choice([0.7, 1.0, 1.5]),
        top_p=rng.choice([1.0, 0.9]),
        top_k=rng.choice([0, 20]),
        min_p=rng.choice([0.0, 0.05]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        presence_penalty=rng.choice([0.0, 0.5]),
        seed=rng.randrange(1 << 40),
        max_tokens=rng.randrange(1, 24),
        logprobs=rng.choice([None, 0, 3]),
        prompt_logprobs=rng.choice([None, None, None, 2]),
        ignore_eos=True,
    )
    return prompt, params


@contextmanager
def engine(path: Path, **options: Any) -> Iterator[LLM]:
    options = {"kv_cache_memory": POOL, "max_model_len": 128, "threads": 1} | options
    with LLM(str(path), skip_tokenizer_init=True, **options) as llm:
        yield llm


def alone(path: Path, requests: list[tuple[list[int], SamplingParams]]) -> list[Answer]:
    """One request at a time, whole prompts, no prefix cache, one thread: the yardstick."""
    with engine(path, enable_prefix_caching=False, max_num_batched_tokens=128) as llm:
        return [answer(llm.generate([prompt], params)[0]) for prompt, params in requests]


@pytest.mark.parametrize("model", MODELS)
def test_every_way_of_running_gives_the_same_bits(model: str, tiny: Callable[[str], Path]) -> None:
    rng = random.Random(model)
    prefixes = [[rng.randrange(VOCAB_SIZE) for _ in range(60)] for _ in range(2)]
    requests = [request(rng, prefixes) for _ in range(24)]
    expected = alone(tiny(model), requests)
    prompts = [prompt for prompt, _ in requests]
    params = [each for _, each in requests]
    variants: list[dict[str, Any]] = [
        *({"max_num_batched_tokens": chunk} for chunk in (1, 7, 64, 2048)),
        {"max_num_batched_tokens": 24, "max_num_seqs": 16},
        {"enable_prefix_caching": False, "max_num_batched_tokens": 33},
        {"threads": 2},
        {"enforce_eager": True, "max_num_batched_tokens": 40},
        {"batching": "static", "max_num_seqs": 5},
        {"enable_chunked_prefill": False, "max_num_batched_tokens": 128},
        {"block_size": 1, "max_num_batched_tokens": 50},
        {"block_size": 5, "scheduling_policy": "priority"},
    ]
    for variant in variants:
        with engine(tiny(model), **variant) as llm:
            found = [answer(output) for output in llm.generate(prompts, params)]
            again = [answer(output) for output in llm.generate(prompts, params)]  # now from the prefix cache
        assert found == expected, variant
        assert again == expected, variant


@pytest.mark.parametrize("kv_cache_dtype", ["bf16", "fp16"])
def test_a_rounded_cache_is_the_same_for_prompts_and_decodes(kv_cache_dtype: str, tiny: Callable[[str], Path]) -> None:
    """Prefill attends through the cache as stored: a prompt computed whole, in chunks, or token by token agrees."""
    rng = random.Random(11)
    prompt = [rng.randrange(VOCAB_SIZE) for _ in range(50)]
    params = SamplingParams(seed=1, max_tokens=12, logprobs=2, prompt_logprobs=1, ignore_eos=True)
    answers = []
    for budget in (1, 7, 128):
        with engine(tiny("gemma3"), kv_cache_dtype=kv_cache_dtype, max_num_batched_tokens=budget) as llm:
            answers.append(answer(llm.generate(prompt, params)[0]))
    assert answers[0] == answers[1] == answers[2]
    with engine(tiny("gemma3"), kv_cache_dtype="fp32") as llm:
        assert answer(llm.generate(prompt, params)[0]) != answers[0], "the cache was not rounded at all"


@pytest.mark.parametrize("model", MODELS)
def test_preemption_changes_nothing(model: str, tiny: Callable[[str], Path]) -> None:
    """A pool that holds little more than one request: dozens of preemptions, not a bit changed."""
    rng = random.Random(7)
    requests = [
        (
            [rng.randrange(VOCAB_SIZE) for _ in range(rng.randrange(2, 10))],
            SamplingParams(seed=i, max_tokens=90, logprobs=2, ignore_eos=True),
        )
        for i in range(24)
    ]
    expected = alone(tiny(model), requests)
    with engine(tiny(model)) as llm:
        block_bytes = llm.info.options["kv_cache_memory"] // llm.info.num_blocks
        needed = llm._core.scheduler.cache.layout.max_blocks(128, 64)  # type: ignore[union-attr]
    with engine(tiny(model), kv_cache_memory=block_bytes * (needed + 2), max_num_batched_tokens=64) as llm:
        found = [answer(output) for output in llm.generate([p for p, _ in requests], [s for _, s in requests])]
        assert llm._core is not None
        assert llm._core.scheduler.running.num_preemptions > 24
        assert llm._core.scheduler.cache.pool.num_held == 0
    assert found == expected


@given(
    seed=st.integers(0, 2**32),
    budget=st.sampled_from([1, 7, 16, 64, 300]),
    seats=st.sampled_from([1, 2, 3, 16]),
    threads=st.sampled_from([1, 2]),
)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_traffic(tiny: Callable[[str], Path], seed: int, budget: int, seats: int, threads: int) -> None:
    rng = random.Random(seed)
    prefixes = [[rng.randrange(VOCAB_SIZE) for _ in range(60)] for _ in range(2)]
    requests = [request(rng, prefixes) for _ in range(8)]
    expected = alone(tiny("gemma3"), requests)
    shuffled = list(range(len(requests)))
    rng.shuffle(shuffled)
    with engine(
        tiny("gemma3"), max_num_batched_tokens=budget, max_num_seqs=seats, threads=threads, kv_cache_memory="300K"
    ) as llm:
        outputs = llm.generate([requests[i][0] for i in shuffled], [requests[i][1] for i in shuffled])
    assert [answer(output) for output in outputs] == [expected[i] for i in shuffled]
