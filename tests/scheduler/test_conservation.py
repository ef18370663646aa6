"""Law 3 under random traffic: every block accounted for, every request ends once, no key read by a stranger."""

import random

import pytest
from scheduler.traffic import Traffic, full, make_scheduler, windowed

from octavo.cache import plan_layout
from octavo.core.request import Request
from octavo.scheduler.step import Step

LAYOUTS = {
    "full": [full(4)] * 2,
    "window": [windowed(4, 9)] * 2,
    "hybrid": [windowed(4, 9), windowed(4, 9), windowed(4, 9), full(4), windowed(4, 9), full(4)],
    "block-of-one": [full(1), windowed(1, 3)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("policy", ["fcfs", "priority", "fair"])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_random_traffic_conserves_blocks_and_requests(layout: str, policy: str, prefix_caching: bool) -> None:
    specs = LAYOUTS[layout]
    num_blocks = plan_layout(specs).max_blocks(100, 24) + 3  # room for the largest request, and hardly more
    scheduler = make_scheduler(
        specs, num_blocks, policy=policy, prefix_caching=prefix_caching, max_num_batched_tokens=24
    )
    traffic = Traffic(scheduler, seed=len(layout), max_prompt=40, max_output=60)
    for _ in range(650):
        traffic.step(arrival_rate=0.35)
    traffic.drain()
    assert traffic.num_requests > 100
    assert scheduler.running.num_preemptions > (5 if layout == "window" else 50)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("policy", ["fcfs", "priority", "fair"])
def test_small_shares_and_awaited_prefixes_conserve_too(
    layout: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the other traffic, with many prompts in a step, of which many wait for a prefix that another computes."""
    monkeypatch.setattr("octavo.scheduler.step.MIN_SHARE_TOKENS", 2)
    monkeypatch.setattr("octavo.scheduler.step.MAX_PASSED_OVER", 3)
    monkeypatch.setattr("octavo.cache.kv_cache_manager.MIN_AWAITED_TOKENS", 4)
    num_passed_over = 0
    pass_over = Step.pass_over

    def counted(step: Step, request: Request) -> None:
        nonlocal num_passed_over
        num_passed_over += 1
        pass_over(step, request)

    monkeypatch.setattr(Step, "pass_over", counted)
    specs = LAYOUTS[layout]
    num_blocks = plan_layout(specs).max_blocks(100, 24) + 3
    scheduler = make_scheduler(specs, num_blocks, policy=policy, max_num_batched_tokens=24)
    traffic = Traffic(scheduler, seed=len(layout), max_prompt=40, max_output=60)
    for _ in range(400):
        traffic.step(arrival_rate=0.5)
    traffic.drain()
    assert num_passed_over > 10


@pytest.mark.parametrize("limits", [{"is_static": True}, {"enable_chunked_prefill": False}])
def test_baselines_conserve_too(limits: dict[str, bool]) -> None:
    scheduler = make_scheduler(LAYOUTS["hybrid"], 120, max_num_batched_tokens=100, **limits)
    traffic = Traffic(scheduler, seed=3)
    for _ in range(300):
        traffic.step()
    traffic.drain()


def test_odd_budgets_and_seats() -> None:
    rng = random.Random(5)
    for seed in range(25):
        scheduler = make_scheduler(
            rng.choice(list(LAYOUTS.values())),
            rng.randrange(300, 500),
            max_num_batched_tokens=rng.choice([1, 2, 7, 33, 500]),
            max_num_seqs=rng.choice([1, 2, 5, 64]),
        )
        traffic = Traffic(scheduler, seed=seed)
        for _ in range(40):
            traffic.step()
        traffic.drain()
