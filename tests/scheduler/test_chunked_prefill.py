"""A short request that arrives while a long prompt is computed: how soon it has its first token, in steps and in tokens."""

from scheduler.step_model import StepModel
from scheduler.traffic import full, make_scheduler

LONG, SHORT, BUDGET = 6000, 32, 512
NUM_DECODING = 8


def run(*, is_chunked: bool) -> StepModel:
    """Requests decode, the long prompt's first step has run, and during it the short request arrived."""
    budget = BUDGET if is_chunked else 8192
    limits = {"max_num_seqs": 64, "max_num_batched_tokens": budget, "enable_chunked_prefill": is_chunked}
    model = StepModel(make_scheduler([full(16)], 2_000, prefix_caching=False, **limits))
    for index in range(NUM_DECODING):
        model.add(f"decoding{index}", SHORT, max_tokens=64, token=2 + index)
    while len(model.wait_steps) < NUM_DECODING:
        model.step()
    arrival = (model.now, model.num_steps)
    model.add("long", LONG)
    model.step()
    model.add("short", SHORT, token=99)
    model.arrival["short"] = arrival
    return model


def test_with_chunked_prefill_it_has_its_first_token_within_two_steps() -> None:
    model = run(is_chunked=True)
    model.drain()
    assert model.wait_steps["short"] <= 2
    assert model.wait_tokens["short"] <= 2 * BUDGET
    assert model.wait_steps["long"] >= LONG / BUDGET


def test_without_it_the_whole_prompt_is_computed_first() -> None:
    model = run(is_chunked=False)
    model.drain()
    assert model.wait_steps["long"] == 1
    assert model.wait_tokens["short"] >= LONG + SHORT


def test_those_that_decode_have_a_token_in_every_chunk() -> None:
    model = run(is_chunked=True)
    while "long" not in model.wait_steps:
        computed = model.computed(model.step())
        assert [computed.get(f"decoding{index}") for index in range(NUM_DECODING)] == [1] * NUM_DECODING
