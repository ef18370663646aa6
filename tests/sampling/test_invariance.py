"""Law 2: a row's token and log-probabilities are bitwise the same in any batch, on any number of threads."""

import numpy as np
import pytest
import torch

from octavo.core.sampling_params import SamplingParams
from octavo.sampling import Sampler, SamplingRow
from octavo.sampling.draw import _nucleus_totals, _softmax_tiles, _tile_sums

SIZES = [7, 128, 130, 5003, 49_152, 50_257, 262_144]


@pytest.fixture(autouse=True)
def restored_threads():
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def logits_of(num_rows, vocab_size):
    """Strided rows, of different scales."""
    generator = torch.Generator().manual_seed(vocab_size)
    wide = torch.randn(num_rows, vocab_size + 3, generator=generator)
    wide *= torch.linspace(0.5, 6, num_rows)[:, None]
    return wide[:, 1 : vocab_size + 1]


def solo_and_shared(function, logits, num_alone):
    """`function` of some rows alone, then of all together and of runs of them, on 1 to 3 threads, must agree."""
    torch.set_num_threads(1)
    reference = function(logits.contiguous())
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        assert torch.equal(function(logits), reference)
        for start, stop in [(i, i + 1) for i in range(num_alone)] + [(1, 3), (1, 4), (2, len(logits))]:
            assert torch.equal(function(logits[start:stop]), reference[start:stop]), (num_threads, start, stop)


REDUCTIONS = {
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "tile sums": lambda x: torch.from_numpy(_tile_sums(_softmax_tiles(x, [SamplingParams(temperature=0.7)] * len(x)))),
    "nucleus totals": lambda x: torch.from_numpy(_nucleus_totals(x, [SamplingParams(top_p=0.9)] * len(x))),
}


@pytest.mark.parametrize("vocab_size", SIZES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_over_the_vocabulary(name, vocab_size):
    solo_and_shared(REDUCTIONS[name], logits_of(64 if vocab_size < 49_000 else 9, vocab_size), num_alone=4)


def mixed_rows(num_rows, vocab_size):
    """Rows of every kind: greedy, whole, cut; processed or not; with and without log-probabilities."""
    rng = np.random.default_rng(5)
    choices = {
        "temperature": [0.0, 0.0, 0.6, 1.0, 2.0],
        "top_k": [0, 0, 1, 20, 1000],
        "top_p": [1.0, 1.0, 0.9, 0.3],
        "min_p": [0.0, 0.0, 0.05],
        "repetition_penalty": [1.0, 1.0, 1.0, 1.2],
        "frequency_penalty": [0.0, 0.0, 0.5],
        "presence_penalty": [0.0, 0.0, 0.0, -0.5],
        "logit_bias": [None, None, {3: 5.0, 1: -2.0}],
        "allowed_token_ids": [None, None, None, tuple(range(0, vocab_size, 3))],
        "bad_word_token_ids": [(), (), ((1, 2), (4,))],
        "min_tokens": [0, 0, 12],
        "logprobs": [None, None, 0, 5],
    }
    all_params = [
        SamplingParams(**{name: options[rng.integers(len(options))] for name, options in choices.items()})
        for _ in range(num_rows)
    ]
    return [
        SamplingRow(
            params=params,
            seed=int(rng.integers(4)) - 2,
            position=int(rng.integers(50)),
            prompt_token_ids=rng.integers(0, vocab_size, 30).tolist(),
            output_token_ids=rng.integers(0, vocab_size, 8).tolist(),
            stop_token_ids=[0, 2],
            allowed_token_ids=params.allowed_token_ids,
        )
        for params in all_params
    ]


@pytest.mark.parametrize(("vocab_size", "num_rows"), [(7, 64), (130, 64), (5003, 64), (49_152, 50), (262_144, 12)])
def test_samples_do_not_depend_on_the_batch(vocab_size, num_rows):
    logits, rows = logits_of(num_rows, vocab_size), mixed_rows(num_rows, vocab_size)
    before = logits.clone()
    sampler = Sampler(vocab_size)
    torch.set_num_threads(1)
    alone = [sampler.sample(logits[i : i + 1].clone(), rows[i : i + 1])[0] for i in range(num_rows)]
    assert all(token.error is None for token in alone)
    assert len({token.token_id for token in alone}) > min(vocab_size, num_rows) // 3
    order = np.random.default_rng(6).permutation(num_rows).tolist()
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        assert sampler.sample(logits, rows) == alone
        shuffled = sampler.sample(logits[order], [rows[i] for i in order])
        assert shuffled == [alone[i] for i in order]
        half = sampler.sample(logits[::2], rows[::2])
        assert half == alone[::2]
    assert torch.equal(logits, before)
