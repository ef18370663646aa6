"""What a step is said to have computed."""

from scheduler.traffic import full, make_samples, make_scheduler

from octavo.core.messages import ModelOutput, RequestResult, SchedulerOutput
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler


def run_step(scheduler: Scheduler) -> SchedulerOutput:
    batch = scheduler.schedule()
    scheduler.update(
        batch, ModelOutput([RequestResult(each.request_id, [1] if each.is_sampled else []) for each in batch.scheduled])
    )
    return batch


def work_of_steps(scheduler: Scheduler, count: int) -> list[tuple[int, int, int]]:
    """(sequences, decode tokens, prefill tokens) of each step."""
    work = []
    for _ in range(count):
        batch = run_step(scheduler)
        stats = scheduler.stats()
        assert stats.num_step_tokens == batch.num_tokens
        work.append((stats.num_step_requests, stats.num_decode_tokens, stats.num_prefill_tokens))
    return work


def test_chunks_are_prefill_and_what_follows_is_decode() -> None:
    scheduler = make_scheduler([full(4)], 100, max_num_batched_tokens=8)
    params = SamplingParams(max_tokens=3)
    scheduler.add(
        make_samples("long", list(range(17)), params)
    )  # 8 + 8 + 1: its last chunk is one token, and no decode
    assert work_of_steps(scheduler, 6) == [(1, 0, 8), (1, 0, 8), (1, 0, 1), (1, 1, 0), (1, 1, 0), (0, 0, 0)]
    scheduler.add(make_samples("one", [5], params))
    assert work_of_steps(scheduler, 2) == [(1, 0, 1), (1, 1, 0)]
    scheduler.add(make_samples("two", list(range(20, 26)), params))
    assert work_of_steps(scheduler, 1) == [(2, 1, 6)]


def test_what_is_computed_again_after_a_preemption_is_prefill() -> None:
    scheduler = make_scheduler([full(4)], 6, prefix_caching=False)
    for name in ("a", "b"):
        scheduler.add(make_samples(name, list(range(8)), SamplingParams(max_tokens=8)))
    work = work_of_steps(scheduler, 40)
    assert scheduler.running.num_preemptions == 1
    assert work[0] == (2, 0, 16)
    again = [prefill for _, _, prefill in work[1:] if prefill]
    assert len(again) == 1 and again[0] > 8  # its prompt and what it had said
