"""How prompts share a step: short ones do not wait for long ones, long ones go on, nothing is computed twice."""

import random
from statistics import mean

import pytest
from scheduler.step_model import StepModel
from scheduler.traffic import full, make_scheduler

from octavo.scheduler import step as step_module
from octavo.scheduler.step import MIN_SHARE_TOKENS, share

BUDGET = 512
LONG, SHORT = 8 * BUDGET, 32


def model(**options: object) -> StepModel:
    limits = {"prefix_caching": False, "max_num_seqs": 64, "max_num_batched_tokens": BUDGET} | options
    return StepModel(make_scheduler([full(16)], 20_000, **limits))  # type: ignore[arg-type]


def test_the_oldest_takes_half_and_the_others_equal_parts() -> None:
    run = model()
    for index in range(4):
        run.add(f"r{index}", LONG)
    first = run.computed(run.step())
    assert first == {"r0": 256, "r1": 85, "r2": 85, "r3": 86}


@pytest.mark.parametrize("num_claims", [1, 2, 5, 100])
@pytest.mark.parametrize("budget", [0, 1, 63, 64, 65, 512, 8192])
def test_shares_use_up_the_budget_and_no_more(budget: int, num_claims: int) -> None:
    left = budget
    for rank in range(num_claims):
        part = min(left, share(left, rank, num_claims))
        assert part >= min(left, MIN_SHARE_TOKENS)
        left -= part
    assert left == 0


@pytest.mark.parametrize("num_long", [1, 4])
def test_a_short_prompt_does_not_wait_for_long_ones(num_long: int) -> None:
    run = model()
    for index in range(num_long):
        run.add(f"long{index}", LONG)
    run.step()
    run.add("short", SHORT)
    run.drain()
    assert run.wait_steps["short"] == 1


def test_what_short_prompts_leave_is_used() -> None:
    run = model()
    run.add("long", LONG)
    run.add("short", SHORT)
    assert run.computed(run.step()) == {"long": BUDGET - SHORT, "short": SHORT}


def test_every_running_prompt_goes_on_every_step_while_shares_last() -> None:
    run = model()
    for index in range(1 + BUDGET // 2 // MIN_SHARE_TOKENS):
        run.add(f"r{index}", LONG)
    run.step()
    for _ in range(5):
        assert len(run.computed(run.step())) == 1 + BUDGET // 2 // MIN_SHARE_TOKENS


def poisson(run: StepModel) -> tuple[float, float]:
    """Mean wait of long and of short prompts, in steps' worth of tokens, at 70% load with a tenth of them long."""
    rng = random.Random(0)
    arrivals: list[tuple[float, int]] = []
    now = 0.0
    while now < BUDGET * 300:
        now += rng.expovariate(0.7 / (0.9 * BUDGET / 8 + 0.1 * LONG))
        arrivals.append((now, LONG if rng.random() < 0.1 else max(8, int(rng.expovariate(8 / BUDGET)))))
    index = 0
    while index < len(arrivals) or run.scheduler.has_work():
        if not run.scheduler.has_work():
            run.now = max(run.now, int(arrivals[index][0]) + 1)
        while index < len(arrivals) and arrivals[index][0] <= run.now:
            run.add(f"{'long' if arrivals[index][1] == LONG else 'short'}{index}", arrivals[index][1])
            index += 1
        run.step()
    waits = {kind: [wait for name, wait in run.wait_tokens.items() if kind in name] for kind in ("long", "short")}
    return mean(waits["long"]) / BUDGET, mean(waits["short"]) / BUDGET


def test_sharing_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one prompt after another: short prompts wait a third, long ones at most 1.4 times as long."""
    long, short = poisson(model())
    monkeypatch.setattr("octavo.scheduler.scheduler.share", lambda budget, rank, num_claims: budget)
    long_in_turn, short_in_turn = poisson(model())
    assert short < short_in_turn / 3
    assert long < 1.4 * long_in_turn


def test_prompts_of_one_prefix_are_computed_once() -> None:
    run = model(prefix_caching=True)
    for index in range(20):
        run.add(f"r{index}", LONG)
    run.add("other", SHORT, token=2)
    run.drain()
    assert run.now < LONG + 20 * 16 + SHORT + 16
    assert run.wait_steps["other"] <= 9, "one that shares nothing is not held up by those that wait for the prefix"


def test_those_passed_over_keep_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "MAX_PASSED_OVER", 2)
    run = model(prefix_caching=True, max_num_seqs=4)
    for index in range(6):
        run.add(f"r{index}", 2 * BUDGET)
    run.drain()
    steps = [run.wait_steps[f"r{index}"] for index in range(6)]
    assert steps == sorted(steps)


def test_blocks_that_running_prompts_are_yet_to_take_are_not_promised_twice() -> None:
    run = StepModel(make_scheduler([full(16)], 40, prefix_caching=False, max_num_batched_tokens=64, max_num_seqs=8))
    for index in range(6):
        run.add(f"r{index}", 20 * 16 - 8)  # two of them fill the pool
    run.drain()
    assert run.scheduler.running.num_preemptions == 0
