"""Who is served first: priorities, and clients that get the same whoever asks for more."""

import random
from collections import Counter
from statistics import mean

import pytest
from scheduler.step_model import StepModel
from scheduler.traffic import full, make_scheduler

BUDGET = 256
LONG, SHORT = 1024, 32


def model(policy: str, num_blocks: int = 10_000, **limits: int) -> StepModel:
    options = {"max_num_seqs": 16, "max_num_batched_tokens": BUDGET} | limits
    return StepModel(make_scheduler([full(16)], num_blocks, policy=policy, prefix_caching=False, **options))


def flood(run: StepModel, name: str, count: int, num_prompt: int = LONG, max_tokens: int = 1, client: str = "") -> None:
    for index in range(count):
        run.add(f"{name}{index}", num_prompt, max_tokens, client=client or name)


# ── fair ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_long_prompts_do_not_starve_another_client() -> None:
    run = model("fair")
    flood(run, "greedy", 1000)
    for index in range(50):
        for _ in range(7):
            run.step()
        run.add(f"modest{index}", SHORT, client="modest")
    while len(run.wait_steps) < 1000 and run.scheduler.has_work() and "modest49" not in run.wait_steps:
        run.step()
    waits = [wait for name, wait in run.wait_steps.items() if "modest" in name]
    assert len(waits) == 50 and max(waits) <= 2


def test_in_order_of_arrival_they_would() -> None:
    run = model("fcfs")
    flood(run, "greedy", 100)
    run.add("modest", SHORT, client="modest")
    run.drain()
    assert run.wait_steps["modest"] > 300


def test_a_client_waits_for_one_seat_not_for_the_queue() -> None:
    run = model("fair", max_num_seqs=4)
    flood(run, "greedy", 1000, max_tokens=40)
    for _ in range(60):
        run.step()
    for index in range(5):
        run.add(f"modest{index}", SHORT, client="modest")
        while f"modest{index}" not in run.wait_steps:
            run.step()
    waits = [wait for name, wait in run.wait_steps.items() if "modest" in name]
    assert len(waits) == 5 and max(waits) <= 60


def seats(run: StepModel) -> Counter[str]:
    return Counter(request.client for request in run.scheduler.running)


def test_seats_that_are_free_at_once_are_shared() -> None:
    run = model("fair", max_num_seqs=8)
    flood(run, "a", 100, num_prompt=20, max_tokens=1000)
    flood(run, "b", 100, num_prompt=20, max_tokens=1000)
    run.step()
    assert seats(run) == {"a": 4, "b": 4}


def test_samples_of_a_prompt_take_no_seat_that_another_client_waits_for() -> None:
    run = model("fair", max_num_seqs=8)
    run.add("a", 150, 1000, client="a", n=8)
    flood(run, "b", 3, num_prompt=100, max_tokens=1000)
    for _ in range(20):
        run.step()
    assert seats(run) == {"a": 5, "b": 3}


def test_answers_count_though_nothing_else_of_their_client_waits() -> None:
    """A client that held nearly all seats for long does not get them again while another waits for them."""
    run = model("fair", max_num_seqs=8)
    flood(run, "a", 7, num_prompt=20, max_tokens=500)
    run.step()
    flood(run, "b", 40, num_prompt=20, max_tokens=100)
    for _ in range(495):
        run.step()
    assert seats(run) == {"a": 7, "b": 1}
    flood(run, "a again", 7, num_prompt=20, max_tokens=500, client="a")
    for _ in range(10):
        run.step()
    assert seats(run) == {"b": 8}


def test_steps_without_prompts_forgive_nothing() -> None:
    run = model("fair", max_num_seqs=2)
    run.add("a", 20, 300, client="a")
    run.add("b", 20, 30, client="b")
    for _ in range(100):
        run.step()
    run.add("c", 20, 300, client="c")  # takes the other seat
    for _ in range(200):
        run.step()
    run.add("a again", 20, 50, client="a")
    run.add("b again", 20, 50, client="b")
    run.drain()
    assert run.wait_steps["b again"] < run.wait_steps["a again"]


@pytest.mark.parametrize("max_tokens", [1, 30])
def test_clients_that_always_ask_get_the_same(max_tokens: int) -> None:
    """However many requests each has, and however long: to within a step, and what holds seats already."""
    run = model("fair")
    num_seats = run.scheduler.limits.max_num_seqs
    flood(run, "a", 400, max_tokens=max_tokens)
    flood(run, "b", 3000, num_prompt=60, max_tokens=max_tokens)
    flood(run, "c", 800, num_prompt=300, max_tokens=max_tokens)
    for _ in range(100):
        for _ in range(3):
            run.step()
        most, least = max(run.served.values()), min(run.served.values())
        assert most - least <= 2 * (LONG + 2 * num_seats * max_tokens)
    assert least > 10_000


def test_idling_earns_no_credit() -> None:
    run = model("fair")
    flood(run, "a", 200)
    flood(run, "b", 200)
    for _ in range(100):
        run.step()
    before = dict(run.served)
    flood(run, "late", 200)
    for _ in range(90):
        run.step()
    gained = {client: served - before.get(client, 0) for client, served in run.served.items()}
    assert max(gained.values()) - min(gained.values()) <= 2 * BUDGET


def test_the_client_that_was_given_most_gives_way() -> None:
    run = model("fair", num_blocks=64)
    run.add("small", 64, 200, client="small")
    for index in range(3):
        run.add(f"large{index}", 200, 200, client="large")
    preempted = set()
    while run.scheduler.has_work():
        run.step()
        preempted |= {request.client for request in run.scheduler.waiting.in_order() if request.num_preemptions}
    assert run.scheduler.running.num_preemptions > 0
    assert preempted == {"large"}


def test_what_is_known_of_clients_does_not_grow() -> None:
    run = model("fair")
    flood(run, "always", 300)
    rng = random.Random(0)
    for index in range(250):
        run.add(f"r{index}", rng.randrange(1, 400), client=f"passer-by {index}")
        run.step()
    assert len(run.scheduler.policy._served) < 60  # type: ignore[attr-defined]
    run.drain()
    assert len(run.scheduler.policy._served) <= 2  # type: ignore[attr-defined]
    for index in range(250):
        run.add(f"alone {index}", rng.randrange(1, 400), 20, client=f"alone {index}")
        run.drain()
        assert len(run.scheduler.policy._served) <= 60  # type: ignore[attr-defined]


# ── priority ─────────────────────────────────────────────────────────────────────────────────────


def test_urgent_prompts_go_before_those_that_run() -> None:
    run = model("priority")
    for index in range(10):
        run.add(f"later{index}", LONG, priority=1)
    run.step()
    run.add("urgent", LONG, priority=-1)
    run.drain()
    assert run.wait_steps["urgent"] == LONG // BUDGET


def test_the_least_urgent_give_way_and_the_urgent_never() -> None:
    run = model("priority", num_blocks=60)
    rng = random.Random(1)
    requests = {}
    for index in range(12):
        priority = index % 3
        run.add(f"r{index}", rng.randrange(100, 200), 120, priority=priority)
        requests[f"r{index}"] = run.scheduler._requests[f"r{index}/0"]
    run.drain()
    by_priority = [[r.num_preemptions for r in requests.values() if r.priority == p] for p in range(3)]
    assert sum(by_priority[2]) > 0
    assert mean(by_priority[0]) < mean(by_priority[2])
    waits = [mean(run.wait_tokens[name] for name, r in requests.items() if r.priority == p) for p in range(3)]
    assert waits == sorted(waits)
