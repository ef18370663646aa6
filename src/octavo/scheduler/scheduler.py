"""The scheduler: each step, who runs and how many of its tokens are computed.

A request has *tokens to compute*, not a phase (architecture: the path of a request). Every step hands
requests some of their uncomputed tokens within one token budget: decodes first, then prompts, those
that run and those that wait, by turns of their lanes (`policy`). When blocks run out, the policy's victim gives
its own back and is computed again later, which by law 2 changes none of its tokens.
"""

from collections.abc import Iterator

from octavo.cache import KVCacheManager
from octavo.core.messages import (
    EngineStats,
    ModelOutput,
    RequestResult,
    ScheduledRequest,
    SchedulerOutput,
    SequenceEvent,
)
from octavo.core.request import FinishReason, Request, RequestFailure, RequestStatus
from octavo.scheduler.batching import Batching, ContinuousBatching, StaticBatching
from octavo.scheduler.events import event_of, instruct, introduce, take_in
from octavo.scheduler.followers import Followers
from octavo.scheduler.limits import SchedulerLimits
from octavo.scheduler.policy import Lane, SchedulingPolicy
from octavo.scheduler.running import Running
from octavo.scheduler.step import Step, StepWork, share
from octavo.scheduler.turns import take_turns
from octavo.scheduler.waiting_queue import WaitingQueue


class Scheduler:
    """Owns the requests, and alone changes them. Not thread-safe: one step loop drives it.

    `add` and `abort` at any time between steps; then `schedule()`, the worker's pass, `update()`.
    Law 3: every request added ends with exactly one event that has a `finish_reason`.
    """

    def __init__(self, limits: SchedulerLimits, cache: KVCacheManager, policy: SchedulingPolicy) -> None:
        self.limits = limits
        self.cache = cache
        self.policy = policy
        self.waiting = WaitingQueue(policy)
        self.running = Running(limits, cache, policy, self.waiting)
        self._requests: dict[str, Request] = {}
        self._followers = Followers()
        self._batching: Batching = StaticBatching(limits.max_num_seqs) if limits.is_static else ContinuousBatching()
        self._finished_ids: list[str] = []
        self._failures: list[SequenceEvent] = []
        self._num_arrivals = 0
        self._step = 0
        self._work = StepWork()

    # ── arrivals and departures ──────────────────────────────────────────────────────────────────

    def add(self, samples: list[Request]) -> None:
        """Queue a request's samples: the first computes the prompt, the others then share its blocks."""
        leader, *followers = samples
        for request in samples:
            assert request.id not in self._requests, request.id
            request.arrival_order = self._num_arrivals
            self._num_arrivals += 1
            self._requests[request.id] = request
        self.waiting.push(leader)
        self._followers.join(leader, followers)

    def abort(self, sequence: str, reason: FinishReason = FinishReason.ABORT) -> SequenceEvent | None:
        """End a sequence now and give its blocks back; None where it has ended already."""
        request = self._requests.get(sequence)
        return None if request is None else self._finish(request, reason)

    def has_work(self) -> bool:
        return bool(self._requests or self._failures)

    # ── a step ───────────────────────────────────────────────────────────────────────────────────

    def schedule(self) -> SchedulerOutput:
        """Decide the next step. O(running requests) plus the blocks that change hands."""
        step = Step(self.limits.max_num_batched_tokens, self.limits.max_prompt_logprobs)
        self._schedule_decodes(step)
        self._schedule_prefills(step)
        self.policy.charge(step.num_tokens)
        self._step += 1
        self._work = step.work()
        finished, self._finished_ids = self._finished_ids, []
        new_requests, scheduled = [], []
        for request, num_tokens in step.num_tokens.items():
            if not request.is_known_to_worker:
                request.is_known_to_worker = True
                new_requests.append(introduce(request))
            scheduled.append(instruct(request, num_tokens, self.cache.take_updates(request)))
        return SchedulerOutput(self._step, new_requests, scheduled, self.cache.take_copies(), finished)

    def update(self, batch: SchedulerOutput, output: ModelOutput) -> list[SequenceEvent]:
        """Take in what the step computed: commit blocks, append tokens, stop what has ended."""
        events, self._failures = self._failures, []
        for scheduled, result in zip(batch.scheduled, output.results, strict=True):
            assert scheduled.request_id == result.request_id
            request = self._requests.get(result.request_id)
            if request is not None and request.status is RequestStatus.RUNNING:
                events += self._advance(request, scheduled, result)
        return events

    def fail_all(self, batch: SchedulerOutput, message: str) -> list[SequenceEvent]:
        """End every request of a step whose pass failed as a whole; the others go on."""
        failure = RequestFailure(message)
        results = [RequestResult(scheduled.request_id, [], error=failure) for scheduled in batch.scheduled]
        return self.update(batch, ModelOutput(results))

    def stats(self) -> EngineStats:
        pool = self.cache.pool
        return EngineStats(
            step=self._step,
            num_running=len(self.running),
            num_waiting=len(self._requests) - len(self.running),
            num_blocks=pool.num_blocks,
            num_free_blocks=pool.num_free,
            num_cached_blocks=pool.num_cached,
            num_held_blocks=pool.num_held,
            num_preemptions=self.running.num_preemptions,
            prefix_cache_queries=self.cache.prefix_queries,
            prefix_cache_hits=self.cache.prefix_hits,
            num_step_requests=self._work.num_requests,
            num_decode_tokens=self._work.num_decode_tokens,
            num_prefill_tokens=self._work.num_prefill_tokens,
        )

    # ── scheduling ───────────────────────────────────────────────────────────────────────────────

    def _schedule_decodes(self, step: Step) -> None:
        for request in [request for request in self.running if request.num_uncomputed_tokens == 1]:
            self._grant(step, request, 1)

    def _schedule_prefills(self, step: Step) -> None:
        """Prompts, by turns of their lanes; what a lane leaves of the budget is the next one's."""
        running: dict[Lane, list[Request]] = {}
        for request in self.running:
            if request.num_uncomputed_tokens > 1:
                running.setdefault(self.policy.lane(request), []).append(request)
        waiting = self.waiting.lanes()
        has_seats = self._num_seats(step) > 0
        if not (running or (waiting and has_seats)):
            return
        lanes = list(dict.fromkeys([*reversed(waiting), *running]))
        self.policy.observe(lanes)
        self._batching.begin_step(self.waiting, is_idle=not self.running)
        served = lanes if has_seats else running
        take_turns(step, self.policy, {lane: self._serve_lane(step, lane, running.get(lane, [])) for lane in served})
        for request in step.passed_over:
            self.waiting.push(request)

    def _serve_lane(self, step: Step, lane: Lane, prefills: list[Request]) -> Iterator[None]:
        """The lane's prompts share the budget: those that run, then those that wait; a turn ends with an admission."""
        num_claims = len(prefills) + min(self.waiting.num_waiting(lane), self._num_seats(step))
        for rank, request in enumerate(prefills):
            self._grant(step, request, share(step.budget, rank, num_claims))
        for rank in range(len(prefills), num_claims):
            if not (self._num_seats(step) and step.budget > 0 and self.waiting.num_waiting(lane)):
                break
            request = self.waiting.peek(lane)
            if self._admit(step, request, prefills, share(step.budget, rank, num_claims)):
                prefills.append(request)
                yield
        for request in prefills:  # what shorter prompts left of their shares
            self._top_up(step, request)

    def _num_seats(self, step: Step) -> int:
        """How many more requests the step may let in."""
        return self.running.num_free_seats if step.is_admitting else 0

    def _grant(self, step: Step, request: Request, most_tokens: int) -> None:
        """Compute up to `most_tokens` of a running request, preempting others for their blocks."""
        if request.status is not RequestStatus.RUNNING:  # preempted for one served before it
            return
        num_tokens = self.limits.chunk(request.num_uncomputed_tokens, most_tokens, step.budget_of(request))
        if num_tokens > 0 and self._make_room(request, num_tokens, step):
            step.grant(request, num_tokens)

    def _top_up(self, step: Step, request: Request) -> None:
        """More of what the step computes of a request, as far as budget and free blocks go."""
        granted = step.num_tokens.get(request, 0)
        num_tokens = min(request.num_uncomputed_tokens, granted + step.budget_of(request))
        if 0 < granted < num_tokens and self.cache.allocate(request, num_tokens):
            step.grant(request, num_tokens)

    def _admit(self, step: Step, request: Request, peers: list[Request], most_tokens: int) -> bool:
        """Let the first that waits in a lane in; False where it goes on waiting, or failed.

        Where it waits for blocks, nobody else comes in before it; where it waits for a prefix that a
        peer is computing, or for log-probabilities' part of a step, others do.
        """
        if not self._batching.may_join(request):
            step.is_admitting = False
            return False
        match = self.cache.match_prefix(request)
        if step.budget_of(request) == 0 or any(self.cache.is_under_way(request, match, peer) for peer in peers):
            self.waiting.remove(request)
            step.pass_over(request)
            return False
        num_tokens = self.limits.chunk(request.num_tokens - match.num_tokens, most_tokens, step.budget_of(request))
        if num_tokens == 0 or (self.running and not self.running.has_blocks_for(request, match)):
            step.is_admitting = False
            return False
        self.waiting.remove(request)
        self.cache.admit(request, match)
        request.num_computed_tokens = match.num_tokens
        if self.cache.allocate(request, num_tokens):
            self.running.start(request)
            step.grant(request, num_tokens)
            return True
        if self.running:  # it fits as a whole, but only once others have given blocks back
            self.running.give_up(request)
            step.is_admitting = False
            return False
        failure = RequestFailure(
            f"the request needs more KV blocks than the pool's {self.cache.pool.num_blocks} for {request.num_tokens} "
            f"tokens; raise kv_cache_memory or lower max_model_len"
        )
        self._failures.append(self._finish(request, FinishReason.ERROR, failure))
        return False

    def _make_room(self, request: Request, num_tokens: int, step: Step) -> bool:
        """Allocate for a running request, preempting others, or at last itself, until there is room."""
        while not self.cache.allocate(request, num_tokens):
            victim = self.running.preempt()
            step.revoke(victim)
            if victim is request:
                return False
        return True

    # ── progress ─────────────────────────────────────────────────────────────────────────────────

    def _advance(self, request: Request, scheduled: ScheduledRequest, result: RequestResult) -> list[SequenceEvent]:
        if result.error is not None:
            return [self._finish(request, FinishReason.ERROR, result.error)]
        request.num_computed_tokens = scheduled.start + len(scheduled.token_ids)
        self.cache.commit(request)
        if scheduled.start < request.num_prompt_tokens <= request.num_computed_tokens:
            self._fork_followers(request)
        event = take_in(request, scheduled, result)
        if event is None:
            return []
        if event.finish_reason is not None:
            self._remove(request)
        return [event]

    def _finish(self, request: Request, reason: FinishReason, error: RequestFailure | None = None) -> SequenceEvent:
        """End a request with nothing more to say; returns its last event."""
        self._remove(request)
        return event_of(request, finish_reason=reason, error=error)

    def _remove(self, request: Request) -> None:
        """Its blocks go back, its followers find another leader."""
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
        elif request.status is RequestStatus.FORKING:
            self._followers.leave(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        self.cache.free(request)
        del self._requests[request.id]
        request.status = RequestStatus.FINISHED
        if request.is_known_to_worker:
            self._finished_ids.append(request.id)
        followers = self._followers.release(request)
        if followers:
            leader, *others = followers
            self.waiting.push(leader)
            self._followers.join(leader, others)

    def _fork_followers(self, leader: Request) -> None:
        """The prompt is computed: its other samples share the blocks and compute only its last token again.

        That gives each its own logits to sample from, by the one path there is. A follower for which no
        seat is left beside those whom the policy serves before it waits, and computes the prompt itself.
        """
        followers = self._followers.release(leader)
        if not followers:
            return
        most_running = self.limits.max_num_seqs - self.waiting.num_before(leader)
        for follower in followers:
            if len(self.running) < most_running:
                self.running.fork(leader, follower)
            else:
                self.waiting.push(follower)
