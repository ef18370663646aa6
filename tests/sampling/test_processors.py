"""Each logits processor against a naive loop in numpy, and against transformers where it has the same one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.core.errors import InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.sampling import SamplingRow, processors

V = 11
ids = st.integers(0, V - 1)
sequences = st.lists(ids, max_size=12)
rows_of_logits = st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V).map(lambda x: torch.tensor(x))
F = np.float32


def edited(edit, logits, *args):
    result = logits.clone()
    edit(result, *args)
    return result.numpy()


@given(rows_of_logits, st.lists(ids, min_size=1))
@settings(deadline=None)
def test_allow_only(logits, allowed):
    expected = [x if i in allowed else -np.inf for i, x in enumerate(logits.tolist())]
    assert edited(processors.allow_only, logits, allowed).tolist() == expected


@given(rows_of_logits, st.lists(st.integers(0, 2 * V)))
@settings(deadline=None)
def test_forbid_passes_over_ids_beyond_the_vocabulary(logits, forbidden):
    expected = [-np.inf if i in forbidden else x for i, x in enumerate(logits.tolist())]
    assert edited(processors.forbid, logits, forbidden).tolist() == expected


@given(
    rows_of_logits,
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), max_size=6),
    st.lists(st.integers(0, 2), max_size=4),
    st.lists(st.integers(0, 2), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_bad_words(logits, words, prompt, output):
    past = prompt + output
    ends = {w[-1] for w in words if len(w) - 1 <= len(past) and past[len(past) - len(w) + 1 :] == w[:-1]}
    expected = [-np.inf if i in ends else x for i, x in enumerate(logits.tolist())]
    assert edited(processors.forbid_bad_words, logits, words, prompt, output).tolist() == expected


@given(rows_of_logits, st.dictionaries(ids, st.floats(-100, 100)))
@settings(deadline=None)
def test_add_bias(logits, bias):
    expected = [F(x) + F(bias[i]) if i in bias else x for i, x in enumerate(logits.tolist())]
    assert edited(processors.add_bias, logits, bias).tolist() == expected


@given(rows_of_logits, st.floats(0.125, 8, width=32), sequences, sequences)
@settings(deadline=None)
def test_repetition(logits, penalty, prompt, output):
    seen = set(prompt) | set(output)
    changed = [x / F(penalty) if x > 0 else x * F(penalty) for x in logits.numpy()]
    expected = [changed[i] if i in seen else x for i, x in enumerate(logits.tolist())]
    assert edited(processors.penalise_repetition, logits, penalty, prompt, output).tolist() == expected


@given(rows_of_logits, st.floats(-2, 2), st.floats(-2, 2), sequences)
@settings(deadline=None)
def test_frequency_and_presence(logits, frequency, presence, output):
    expected = [
        x - F(frequency * output.count(i) + presence) if i in output else x for i, x in enumerate(logits.numpy())
    ]
    assert edited(processors.penalise_frequency, logits, frequency, presence, output).tolist() == expected


def test_repetition_passes_over_placeholders_beyond_the_vocabulary():
    logits = torch.ones(V)
    assert edited(processors.penalise_repetition, logits, 2.0, [1, V, V + 100], [-1]).tolist() == [1, 0.5] + [1] * 9


@pytest.mark.parametrize("params", [SamplingParams(logit_bias={V: 1.0}), SamplingParams(allowed_token_ids=(0, V))])
def test_ids_beyond_the_vocabulary_are_refused(params):
    with pytest.raises(InvalidRequestError, match=f"names token id {V}, but the vocabulary has {V} tokens") as caught:
        processors.process(torch.zeros(V), make_row(params))
    assert caught.value.param in ("logit_bias", "allowed_token_ids")


def make_row(params, prompt=(), output=(), stop=()):
    return SamplingRow(
        params=params,
        seed=0,
        position=0,
        prompt_token_ids=list(prompt),
        output_token_ids=list(output),
        stop_token_ids=list(stop),
        allowed_token_ids=params.allowed_token_ids,
    )


@pytest.mark.parametrize(
    ("params", "output", "expected"),
    [
        (SamplingParams(), [], False),
        (SamplingParams(temperature=0, top_k=3, top_p=0.5, min_p=0.1, logprobs=3), [], False),
        (SamplingParams(min_tokens=2), [1], True),
        (SamplingParams(min_tokens=2), [1, 1], False),
        (SamplingParams(presence_penalty=-0.5), [], True),
        (SamplingParams(frequency_penalty=0.5), [], True),
        (SamplingParams(repetition_penalty=1.1), [], True),
        (SamplingParams(logit_bias={1: 1}), [], True),
        (SamplingParams(logit_bias={}), [], False),
        (SamplingParams(allowed_token_ids=(1,)), [], True),
        (SamplingParams(bad_word_token_ids=((1,),)), [], True),
    ],
)
def test_only_rows_that_ask_are_processed(params, output, expected):
    assert processors.is_processed(make_row(params, output=output, stop=[0])) is expected


def test_order_bias_comes_before_penalties_and_after_masks():
    params = SamplingParams(
        allowed_token_ids=(0, 1, 2, 3),
        bad_word_token_ids=((5, 3),),
        min_tokens=2,
        logit_bias={0: 3.0, 3: 100.0, 9: 100.0, 2: 50.0},
        repetition_penalty=2.0,
        frequency_penalty=0.5,
        presence_penalty=0.25,
    )
    logits = torch.full((V,), -1.0)
    processors.process(logits, make_row(params, prompt=[1], output=[5], stop=[2]))
    assert logits.tolist() == [2.0, -2.0] + [-torch.inf] * 9
    logits = torch.full((V,), -1.0)
    processors.process(logits, make_row(params, prompt=[5], output=[0, 0], stop=[2]))
    assert logits.tolist() == [1.0 - 1.25, -1.0, 49.0, 99.0] + [-torch.inf] * 7


@pytest.fixture(scope="module")
def reference():
    return pytest.importorskip("transformers.generation.logits_process")


class TestAgainstTransformers:
    def cases(self):
        generator = np.random.default_rng(0)
        for _ in range(20):
            sizes = generator.integers(1, 40, size=2)
            prompt, output = (generator.integers(0, 300, size=size).tolist() for size in sizes)
            yield torch.from_numpy(generator.normal(size=300).astype(F) * 5), prompt, output

    def test_repetition(self, reference):
        expected = reference.RepetitionPenaltyLogitsProcessor(1.3)
        for logits, prompt, output in self.cases():
            ours = edited(processors.penalise_repetition, logits, 1.3, prompt, output)
            assert np.array_equal(ours, expected(torch.tensor([prompt + output]), logits[None].clone())[0].numpy())

    def test_bad_words(self, reference):
        for logits, prompt, output in self.cases():
            past = prompt + output
            words = [[*past[-2:], 7], [past[-1], 8], [9], [past[-1] ^ 1, 10], [*past, 1, 1, 1]]
            expected = reference.NoBadWordsLogitsProcessor(words, eos_token_id=299)
            ours = edited(processors.forbid_bad_words, logits, words, prompt, output)
            assert np.array_equal(ours, expected(torch.tensor([past]), logits[None].clone())[0].numpy())
            assert np.isneginf(ours).sum() >= 3

    def test_min_tokens(self, reference):
        for logits, prompt, output in self.cases():
            expected = reference.MinNewTokensLengthLogitsProcessor(len(prompt), 20, [3, 5], device="cpu")
            row = make_row(SamplingParams(min_tokens=20, max_tokens=None), prompt, output, stop=[3, 5])
            ours = edited(processors.process, logits, row)
            assert np.array_equal(ours, expected(torch.tensor([prompt + output]), logits[None].clone())[0].numpy())
