"""What a step is said to have computed."""

from scheduler.traffic import full, make_samples, make_scheduler

from octavo.core.messages import ModelOutput, RequestResult, SchedulerOutput
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler
from octavo.scheduler.limits import MAX_PROMPT_LOGPROBS


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


def test_log_probabilities_of_prompts_take_no_more_of_a_step_than_their_part() -> None:
    scheduler = make_scheduler([full(16)], 100, max_num_batched_tokens=512, prefix_caching=False)
    wanted = SamplingParams(max_tokens=4, prompt_logprobs=1)
    for name in ("first", "second"):
        scheduler.add(make_samples(name, list(range(200)), wanted))
    scheduler.add(make_samples("plain", list(range(300)), SamplingParams(max_tokens=4)))
    steps = []
    for _ in range(4):
        batch = run_step(scheduler)
        steps.append({each.request_id.partition("/")[0]: len(each.token_ids) for each in batch.scheduled})
    assert steps[0] == {"first": MAX_PROMPT_LOGPROBS, "plain": 300}  # who has to wait is passed over
    assert steps[1] == {"first": 72, "second": MAX_PROMPT_LOGPROBS - 72, "plain": 1}
    assert steps[2] == {"first": 1, "second": MAX_PROMPT_LOGPROBS, "plain": 1}
    assert steps[3]["second"] == 200 - 2 * MAX_PROMPT_LOGPROBS + 72


def test_prompts_that_cannot_be_cut_have_their_log_probabilities_at_once() -> None:
    scheduler = make_scheduler([full(16)], 100, max_num_batched_tokens=512, enable_chunked_prefill=False)
    scheduler.add(make_samples("a", list(range(300)), SamplingParams(max_tokens=4, prompt_logprobs=1)))
    assert work_of_steps(scheduler, 1) == [(1, 0, 300)]
