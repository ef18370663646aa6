"""Log-probabilities, ranks and top tokens against a naive sort."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.sampling import token_logprobs


def naive(logits_V, token_id, num_top):
    logits = logits_V.numpy()
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    logprobs = torch.log_softmax(logits_V.double(), -1).tolist()
    rank = 1 + sum(x > logits[token_id] for x in logits)
    top = order[:num_top]
    close = [pytest.approx(logprobs[i], rel=4e-7, abs=4e-6) for i in top]
    return (token_id, pytest.approx(logprobs[token_id], rel=4e-7, abs=4e-6), rank, top, close)


def fields(entry):
    return (entry.token_id, entry.logprob, entry.rank, entry.top_token_ids, entry.top_logprobs)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_against_a_sort_with_ties(data):
    vocab_size = data.draw(st.sampled_from([1, 2, 127, 128, 129, 300]))
    num_rows = data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    num_levels = data.draw(st.sampled_from([1, 3, 1000]))
    logits = torch.from_numpy(rng.integers(-num_levels, num_levels, (num_rows, vocab_size)).astype(np.float32) / 7)
    tokens = rng.integers(0, vocab_size, num_rows).tolist()
    num_top = rng.integers(0, 21, num_rows).tolist()
    expected = [naive(*args) for args in zip(logits, tokens, num_top, strict=True)]
    assert [fields(entry) for entry in token_logprobs(logits, tokens, num_top)] == expected


@pytest.mark.parametrize("vocab_size", [49152, 50257])
def test_large_vocabulary(vocab_size):
    logits = torch.randn(6, vocab_size, generator=torch.Generator().manual_seed(1)) * 4
    tokens = [0, 5, vocab_size - 1, 1000, int(logits[4].argmax()), int(logits[5].argmin())]
    before = logits.clone()
    result = token_logprobs(logits, tokens, [0, 1, 20, 5, 3, 2])
    expected = [naive(*args) for args in zip(logits, tokens, [0, 1, 20, 5, 3, 2], strict=True)]
    assert [fields(entry) for entry in result] == expected
    assert (result[4].rank, result[5].rank) == (1, vocab_size)
    assert torch.equal(logits, before)


def test_many_rows_go_in_chunks_and_agree_with_each_alone():
    logits = torch.randn(300, 20_000, generator=torch.Generator().manual_seed(2))
    tokens = [(7 * i) % 20_000 for i in range(300)]
    together = token_logprobs(logits, tokens, [2] * 300)
    assert len(together) == 300
    for i in range(0, 300, 37):
        assert [together[i]] == token_logprobs(logits[i : i + 1], tokens[i : i + 1], [2])


def test_no_rows():
    assert token_logprobs(torch.empty(0, 10), [], []) == []


def test_forbidden_tokens_are_not_among_the_top():
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf]])
    (entry,) = token_logprobs(logits, [1], [4])
    assert (entry.logprob, entry.rank, entry.top_token_ids) == (-math.inf, 3, [2, 0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_unsound_row_is_nan_and_alone(bad):
    logits = torch.randn(3, 500, generator=torch.Generator().manual_seed(3))
    expected = token_logprobs(logits, [1, 2, 3], [5, 5, 5])
    logits[1, 77] = bad
    result = token_logprobs(logits, [1, 2, 3], [5, 5, 5])
    assert math.isnan(result[1].logprob)
    assert [result[0], result[2]] == [expected[0], expected[2]]
