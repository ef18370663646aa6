"""Answers held to grammars: every one that ends is valid, whatever the logits say."""

import itertools
import json
import random
import time

import jsonschema
import pytest
import torch
from sampling.random_schemas import random_schema
from server.fake_model import EOS, ByteTokenizer

from octavo.core.errors import InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.core.structured_outputs import StructuredOutputs
from octavo.sampling import GrammarState, Sampler, SamplingRow
from octavo.tokenizer.grammar import Grammars

VOCAB_SIZE = 300
"""Beyond the tokenizer's, as models pad it."""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(ByteTokenizer)  # type: ignore[arg-type]


NUMBERS = itertools.count()


def state_of(grammars: Grammars, outputs: StructuredOutputs) -> GrammarState:
    request_id = str(next(NUMBERS))
    grammars.prepare(request_id, outputs).result()
    state = GrammarState(grammars.of(request_id))
    grammars.release(request_id)
    return state


def answer(grammars: Grammars, outputs: StructuredOutputs, seed: int, most: int) -> tuple[str, bool]:
    """Tokens drawn from random logits, as text, and whether the answer ended."""
    make = torch.Generator().manual_seed(seed)
    params = SamplingParams(structured_outputs=outputs, max_tokens=most)
    state, sampler, ids = state_of(grammars, outputs), Sampler(VOCAB_SIZE), []
    for position in range(most):
        logits_RV = 3 * torch.randn(1, VOCAB_SIZE, generator=make)
        logits_RV[:, [*b'"}]']] += 4  # strings and lists that end some time
        row = SamplingRow(
            params=params, seed=seed, position=position, prompt_token_ids=[1], output_token_ids=ids, grammar=state
        )
        [chosen] = sampler.sample(logits_RV, [row])
        assert chosen.error is None
        assert chosen.token_id is not None
        if chosen.token_id == EOS:
            return bytes(ids).decode(), True
        ids.append(chosen.token_id)
        if chosen.is_complete:
            return bytes(ids).decode(), True
    return bytes(ids).decode("utf-8", "replace"), False


def test_every_answer_that_ends_is_valid(grammars: Grammars) -> None:
    rng, num_ended = random.Random(5), 0
    for number in range(500):
        schema = {**random_schema(rng), "$defs": {"leaf": {"type": "integer"}}}
        text, has_ended = answer(grammars, StructuredOutputs(json=schema), number, 160)
        if has_ended:
            num_ended += 1
            jsonschema.validate(json.loads(text), schema, cls=jsonschema.Draft202012Validator)
    assert num_ended > 300


def test_what_may_follow_is_told_by_what_came(grammars: Grammars) -> None:
    """A state that is made in the midst of an answer forbids what the one from its beginning does."""
    outputs = StructuredOutputs(json={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    came = list(b'{"a": 12')
    old, new = (state_of(grammars, outputs) for _ in range(2))
    for token in came:
        old.is_complete_with(token)
    masks = [torch.zeros(VOCAB_SIZE) for _ in range(2)]
    old.forbid_others(masks[0], came)
    new.forbid_others(masks[1], came)
    assert torch.equal(*masks)
    allowed = set(masks[0].isfinite().nonzero().flatten().tolist())
    assert {ord("0"), ord("}"), ord(",")} <= allowed
    assert not allowed & {ord("a"), EOS, 299}


def test_masks_that_take_too_long_fail_the_row_alone(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: 60.0 * next(ticks))  # the first mask is told to take a minute
    outputs = StructuredOutputs(choice=["yes"])
    params = (SamplingParams(structured_outputs=outputs, temperature=0.0), SamplingParams(temperature=0.0))
    rows = [
        SamplingRow(
            params=each,
            seed=0,
            position=1,
            prompt_token_ids=[1],
            output_token_ids=[],
            grammar=state_of(grammars, outputs) if each.structured_outputs else None,
        )
        for each in params
    ]
    bad, good = Sampler(VOCAB_SIZE).sample(torch.zeros(2, VOCAB_SIZE), rows)
    assert bad.error is not None and bad.error.is_of_request
    assert "took 60 s for 1 tokens" in bad.error.message
    assert good.error is None


def test_a_row_whose_grammar_forbids_all_that_is_allowed_fails_alone(grammars: Grammars) -> None:
    outputs = StructuredOutputs(choice=["yes"])
    rows = [
        SamplingRow(
            params=SamplingParams(structured_outputs=outputs, allowed_token_ids=ids, temperature=0.0),
            seed=0,
            position=1,
            prompt_token_ids=[1],
            output_token_ids=[],
            allowed_token_ids=ids,
            grammar=state_of(grammars, outputs),
        )
        for ids in ((5,), None)
    ]
    bad, good = Sampler(VOCAB_SIZE).sample(torch.zeros(2, VOCAB_SIZE), rows)
    assert bad.error is not None
    assert bad.error.is_of_request
    assert good.token_id == ord("y")


def test_a_grammar_that_cannot_take_its_token_fails_the_row_and_never_ends_it_well(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llguidance says "stopped" of a matcher that met a limit, as it does of one whose text is whole."""
    outputs = StructuredOutputs(choice=["yes"])
    monkeypatch.setattr(
        GrammarState, "forbid_others", lambda *args: None
    )  # so that a token comes that it does not know
    rows = [
        SamplingRow(
            params=SamplingParams(structured_outputs=outputs, temperature=0.0),
            seed=0,
            position=1,
            prompt_token_ids=[1],
            output_token_ids=[],
            grammar=state_of(grammars, outputs),
        )
        for _ in range(2)
    ]
    logits_RV = torch.zeros(2, VOCAB_SIZE)
    logits_RV[0, ord("x")] = logits_RV[1, ord("y")] = 1.0
    bad, good = Sampler(VOCAB_SIZE).sample(logits_RV, rows)
    assert bad.token_id is None and not bad.is_complete
    assert bad.error is not None and bad.error.is_of_request and bad.error.param == "structured_outputs"
    assert good.token_id == ord("y") and good.error is None


def test_a_state_refuses_an_output_that_its_grammar_does_not_know(grammars: Grammars) -> None:
    state = state_of(grammars, StructuredOutputs(choice=["yes"]))
    with pytest.raises(InvalidRequestError, match="structured_outputs"):
        state.forbid_others(torch.zeros(VOCAB_SIZE), list(b"no"))
