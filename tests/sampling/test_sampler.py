"""The sampler as a whole: what it answers, what it leaves alone, and how a row fails."""

import numpy as np
import pytest
import torch

from octavo.core.sampling_params import SamplingParams
from octavo.sampling import SampledToken, Sampler, SamplingRow, processors, token_logprobs
from octavo.sampling import sampler as sampler_module

V = 1000


def make_row(position=0, seed=0, prompt=(1, 2), output=(3,), stop=(), **params):
    return SamplingRow(
        params=SamplingParams(**params),
        seed=seed,
        position=position,
        prompt_token_ids=prompt,
        output_token_ids=output,
        stop_token_ids=stop,
        allowed_token_ids=params.get("allowed_token_ids"),
    )


def normals(num_rows, seed=0):
    return torch.randn(num_rows, V, generator=torch.Generator().manual_seed(seed)) * 3


def ids(sampled):
    assert all(token.error is None for token in sampled)
    return [token.token_id for token in sampled]


def test_no_rows():
    assert Sampler(V).sample(torch.empty(0, V), []) == []


def test_greedy():
    logits = normals(5)
    assert ids(Sampler(V).sample(logits, [make_row(temperature=0)] * 5)) == logits.argmax(-1).tolist()


def test_greedy_sees_the_processors():
    logits = torch.zeros(4, V)
    logits[:, 5], logits[:, 6], logits[:, 7] = 3.0, 2.0, 1.0
    rows = [
        make_row(temperature=0),
        make_row(temperature=0, stop=[5], min_tokens=2),
        make_row(temperature=0, output=[5], presence_penalty=1.5),
        make_row(temperature=0, logit_bias={5: -5.0, 6: -5.0}),
    ]
    assert ids(Sampler(V).sample(logits, rows)) == [5, 6, 6, 7]


def test_greedy_rows_without_processors_go_together(monkeypatch):
    calls = []
    real = sampler_module._greedy
    monkeypatch.setattr(sampler_module, "_greedy", lambda x, rows: calls.append(x) or real(x, rows))
    monkeypatch.setattr(processors, "process", lambda *_: pytest.fail("no row asked for a processor"))
    logits = normals(300)
    Sampler(V).sample(logits, [make_row(temperature=0)] * 300)
    assert [x.shape for x in calls] == [(300, V)]
    assert calls[0].data_ptr() == logits.data_ptr()


@pytest.mark.parametrize("params", [{}, {"top_k": 50}, {"top_p": 0.9}, {"min_p": 0.01}, {"repetition_penalty": 1.3}])
def test_a_seed_repeats_and_another_differs(params):
    logits = normals(1).expand(40, V) / 3
    rows = [make_row(position=i, seed=7, **params) for i in range(40)]
    first = Sampler(V).sample(logits, rows)
    assert first == Sampler(V).sample(logits, rows)
    others = [make_row(position=i, seed=-7, **params) for i in range(40)]
    assert first != Sampler(V).sample(logits, others)
    assert len(set(ids(first))) > 10


def test_logprobs_are_of_the_raw_logits():
    logits = normals(3)
    rows = [
        make_row(temperature=0, logprobs=4, logit_bias={9: 100.0}),
        make_row(temperature=0),
        make_row(temperature=0.3, top_k=3, logprobs=0),
    ]
    first, second, third = Sampler(V).sample(logits, rows)
    assert first.token_id == 9
    assert [first.logprobs] == token_logprobs(logits[:1], [9], [4])
    assert first.logprobs.rank > 1
    assert 9 not in first.logprobs.top_token_ids
    assert second.logprobs is None
    assert [third.logprobs] == token_logprobs(logits[2:], [third.token_id], [0])


WAYS = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 2},
    {},
    {"logprobs": 2},
    {"top_k": 5},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1},
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        (slice(None), torch.nan, "NaN or"),
        (500, torch.nan, "NaN or"),
        (500, torch.inf, "NaN or"),
        (slice(None), -torch.inf, "every token is forbidden"),
    ],
    ids=["all NaN", "one NaN", "one inf", "all -inf"],
)
def test_a_row_that_fails_does_not_touch_the_others(way, where, value, reason):
    logits = normals(5)
    rows = [make_row(position=i, **way) for i in range(5)]
    expected = Sampler(V).sample(logits, rows)
    logits[2, where] = value
    result = Sampler(V).sample(logits, rows)
    assert result[2].token_id is None
    assert result[2].logprobs is None
    assert reason in result[2].error.message
    assert [result[i] for i in (0, 1, 3, 4)] == [expected[i] for i in (0, 1, 3, 4)]
    assert all(token.error is None for token in expected)


@pytest.mark.parametrize("params", [{"logit_bias": {V: 1.0}}, {"allowed_token_ids": (V,)}])
@pytest.mark.parametrize("temperature", [0, 1])
def test_an_id_beyond_the_vocabulary_is_that_rows_error(params, temperature):
    logits = normals(3)
    rows = [make_row(temperature=temperature, repetition_penalty=1.1) for _ in range(3)]
    expected = Sampler(V).sample(logits, rows)
    rows[1] = make_row(temperature=temperature, **params)
    result = Sampler(V).sample(logits, rows)
    assert f"token id {V}" in result[1].error.message
    assert result[1].token_id is None
    assert [result[0], result[2]] == [expected[0], expected[2]]


@pytest.mark.parametrize("temperature", [0, 1])
def test_all_tokens_forbidden_by_the_request(temperature):
    row = make_row(temperature=temperature, allowed_token_ids=(4,), stop=[4], min_tokens=9)
    (result,) = Sampler(V).sample(normals(1), [row])
    assert "every token is forbidden" in result.error.message


def test_nan_hidden_from_the_draw_but_not_from_the_logprobs_is_an_error():
    logits = normals(1)
    logits[0, 5] = torch.nan
    (hidden,) = Sampler(V).sample(logits, [make_row(allowed_token_ids=(1, 2))])
    assert hidden.token_id in (1, 2)
    assert Sampler(V).sample(logits, [make_row(allowed_token_ids=(1, 2), logprobs=1)])[0].error is not None


def test_token_ids_may_be_arrays():
    logits = normals(1)
    params = {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "bad_word_token_ids": ((2, 3, 9), (3, 8))}
    lists = make_row(prompt=[1, 2], output=[3], stop=[5], min_tokens=4, **params)
    arrays = make_row(prompt=np.array([1, 2]), output=np.array([3]), stop=np.array([5]), min_tokens=4, **params)
    assert Sampler(V).sample(logits, [lists]) == Sampler(V).sample(logits, [arrays])


def test_top_k_beyond_the_vocabulary_keeps_all():
    logits = torch.zeros(400, 3)
    rows = [make_row(position=i, top_k=1 << 31) for i in range(400)]
    assert set(ids(Sampler(3).sample(logits, rows))) == {0, 1, 2}


def test_an_answer_is_a_token_or_an_error():
    assert SampledToken() == SampledToken(token_id=None, logprobs=None, error=None)
