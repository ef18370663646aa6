"""Prompts of random token ids: nothing is looked up, nothing is shared, and the length is exact."""

from dataclasses import dataclass

import numpy as np

from octavo.core.errors import ConfigError
from octavo.core.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    prompt_token_ids: list[int]
    output_len: int

    @property
    def params(self) -> SamplingParams:
        """Greedy, and exactly `output_len` tokens: the model's end token is passed over."""
        return SamplingParams(temperature=0.0, max_tokens=self.output_len, ignore_eos=True, detokenize=False)


def random_requests(
    count: int, *, input_len: int, output_len: int, vocab_size: int, seed: int, range_ratio: float = 0.0
) -> list[BenchRequest]:
    """`count` requests, repeatable by `seed`; lengths are uniform in len·(1 ± range_ratio), at least 1."""
    if not 0.0 <= range_ratio < 1.0:
        raise ConfigError(f"range_ratio={range_ratio} is not in [0, 1)", param="range_ratio")
    random = np.random.default_rng(seed)
    input_lens = _lengths(random, count, input_len, range_ratio)
    output_lens = _lengths(random, count, output_len, range_ratio)
    return [
        BenchRequest(prompt_token_ids=random.integers(0, vocab_size, tokens).tolist(), output_len=output_tokens)
        for tokens, output_tokens in zip(input_lens, output_lens, strict=True)
    ]


def _lengths(random: np.random.Generator, count: int, length: int, range_ratio: float) -> list[int]:
    low, high = max(1, round(length * (1 - range_ratio))), round(length * (1 + range_ratio))
    lengths: list[int] = random.integers(low, high + 1, count).tolist()
    return lengths
