"""The scheduler: each step, who runs and how many of its tokens are computed.

A request has *tokens to compute*, not a phase (architecture: the path of a request). Every step hands
running requests some of their uncomputed tokens within one token budget, decodes first, then prompt
chunks; then it admits waiting requests. When blocks run out, the policy's victim gives its own back and
is computed again later, which by law 2 changes none of its tokens.
"""

import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from octavo.cache import KVCacheManager
from octavo.core.messages import (
    EngineStats,
    ModelOutput,
    NewRequest,
    RequestResult,
    ScheduledRequest,
    SchedulerOutput,
    SequenceEvent,
    TokenLogprobs,
    split_sequence_id,
)
from octavo.core.request import FinishReason, Request, RequestFailure, RequestStatus
from octavo.scheduler.policy import SchedulingPolicy
from octavo.scheduler.waiting_queue import WaitingQueue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a step may hold."""

    max_num_seqs: int
    max_num_batched_tokens: int
    enable_chunked_prefill: bool = True
    """Off: a prompt's uncomputed tokens go into one step, or wait."""
    is_static: bool = False
    """On: a batch, once admitted, runs to its end before the next one; the baseline to compare with."""


@dataclass(slots=True)
class _Step:
    """A step being put together: how many tokens each request gets, in serving order."""

    budget: int
    num_tokens: dict[Request, int] = field(default_factory=dict)
    has_preempted: bool = False

    def grant(self, request: Request, num_tokens: int) -> None:
        self.num_tokens[request] = num_tokens
        self.budget -= num_tokens

    def revoke(self, request: Request) -> None:
        self.budget += self.num_tokens.pop(request, 0)


class Scheduler:
    """Owns the requests, and alone changes them. Not thread-safe: one step loop drives it.

    `add` and `abort` at any time between steps; then `schedule()`, the worker's pass, `update()`.
    Law 3: every request added ends with exactly one event that has a `finish_reason`.
    """

    def __init__(self, limits: SchedulerLimits, cache: KVCacheManager, policy: SchedulingPolicy) -> None:
        self.limits = limits
        self.cache = cache
        self.policy = policy
        self.running: list[Request] = []
        self.waiting = WaitingQueue(policy)
        self.num_preemptions = 0
        self._requests: dict[str, Request] = {}
        self._followers: dict[str, list[Request]] = {}
        self._static_batch: set[str] = set()
        self._finished_ids: list[str] = []
        self._failures: list[SequenceEvent] = []
        self._num_arrivals = 0
        self._step = 0
        self._num_step_tokens = 0

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
        self._follow(leader, followers)

    def abort(self, sequence: str, reason: FinishReason = FinishReason.ABORT) -> SequenceEvent | None:
        """End a sequence now and give its blocks back; None where it has ended already."""
        request = self._requests.get(sequence)
        return None if request is None else self._finish(request, finish_reason=reason)

    def has_work(self) -> bool:
        return bool(self._requests or self._failures)

    # ── a step ───────────────────────────────────────────────────────────────────────────────────

    def schedule(self) -> SchedulerOutput:
        """Decide the next step. O(running requests) plus the blocks that change hands."""
        step = _Step(self.limits.max_num_batched_tokens)
        self._schedule_running(step)
        if not step.has_preempted:
            self._schedule_waiting(step)
        self._step += 1
        self._num_step_tokens = sum(step.num_tokens.values())
        finished, self._finished_ids = self._finished_ids, []
        new_requests, scheduled = [], []
        for request, num_tokens in step.num_tokens.items():
            if not request.is_known_to_worker:
                request.is_known_to_worker = True
                new_requests.append(_introduce(request))
            scheduled.append(self._instruct(request, num_tokens))
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
            num_preemptions=self.num_preemptions,
            prefix_cache_queries=self.cache.prefix_queries,
            prefix_cache_hits=self.cache.prefix_hits,
            num_step_tokens=self._num_step_tokens,
        )

    # ── scheduling ───────────────────────────────────────────────────────────────────────────────

    def _schedule_running(self, step: _Step) -> None:
        decodes = [request for request in self.running if request.num_uncomputed_tokens == 1]
        prefills = [request for request in self.running if request.num_uncomputed_tokens > 1]
        for request in decodes + prefills:
            if request.status is not RequestStatus.RUNNING:  # preempted for one served before it
                continue
            num_tokens = self._chunk(request.num_uncomputed_tokens, step.budget)
            if num_tokens > 0 and self._make_room(request, num_tokens, step):
                step.grant(request, num_tokens)

    def _schedule_waiting(self, step: _Step) -> None:
        if self.limits.is_static:
            self._open_static_batch()
        while self.waiting and step.budget > 0 and len(self.running) < self.limits.max_num_seqs:
            request = self.waiting.peek()
            if self.limits.is_static and request.id not in self._static_batch:
                return
            match = self.cache.match_prefix(request)
            num_tokens = self._chunk(request.num_tokens - match.num_tokens, step.budget)
            if num_tokens == 0:
                return
            if self.running and not self.cache.can_admit(request, match, self.limits.max_num_batched_tokens):
                return
            self.waiting.pop()
            self.cache.admit(request, match)
            request.num_computed_tokens = match.num_tokens
            if self.cache.allocate(request, num_tokens):
                self._start(request)
                step.grant(request, num_tokens)
            elif self.running:  # it fits as a whole, but only once others have given blocks back
                self._stop_running(request)
                self.waiting.push(request)
                return
            else:
                pool = self.cache.pool
                message = (
                    f"the request needs more KV blocks than the pool's {pool.num_blocks} for {request.num_tokens} "
                    f"tokens; raise kv_cache_memory or lower max_model_len"
                )
                self._failures.append(
                    self._finish(request, finish_reason=FinishReason.ERROR, error=RequestFailure(message))
                )

    def _chunk(self, num_uncomputed: int, budget: int) -> int:
        """How many of a request's uncomputed tokens this step may take; 0: none."""
        if num_uncomputed <= budget:
            return num_uncomputed
        return budget if self.limits.enable_chunked_prefill else 0

    def _make_room(self, request: Request, num_tokens: int, step: _Step) -> bool:
        """Allocate for a running request, preempting others, or at last itself, until there is room."""
        while not self.cache.allocate(request, num_tokens):
            victim = self.policy.victim(self.running)
            step.revoke(victim)
            step.has_preempted = True
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, request: Request) -> None:
        logger.debug("request %s preempted at %d tokens", request.id, request.num_computed_tokens)
        self.running.remove(request)
        self._stop_running(request)
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.push(request)

    def _stop_running(self, request: Request) -> None:
        self.cache.free(request)
        request.num_computed_tokens = 0
        request.status = RequestStatus.WAITING

    def _start(self, request: Request) -> None:
        request.status = RequestStatus.RUNNING
        self.running.append(request)
        if request.num_cached_tokens < 0:
            request.num_cached_tokens = min(request.num_computed_tokens, request.num_prompt_tokens)
            request.scheduled_s = time.monotonic()

    def _open_static_batch(self) -> None:
        """When the last batch has run to its end, name the members of the next."""
        if not self.running and self.waiting and self.waiting.peek().id not in self._static_batch:
            members = itertools.islice(self.waiting, self.limits.max_num_seqs)
            self._static_batch = {request.id for request in members}

    def _instruct(self, request: Request, num_tokens: int) -> ScheduledRequest:
        start = request.num_computed_tokens
        end = start + num_tokens
        return ScheduledRequest(
            request.id,
            start,
            request.token_ids[start:end],
            self.cache.take_updates(request),
            is_sampled=end == request.num_tokens,
        )

    # ── progress ─────────────────────────────────────────────────────────────────────────────────

    def _advance(self, request: Request, scheduled: ScheduledRequest, result: RequestResult) -> list[SequenceEvent]:
        if result.error is not None:
            return [self._finish(request, finish_reason=FinishReason.ERROR, error=result.error)]
        request.num_computed_tokens = scheduled.start + len(scheduled.token_ids)
        self.cache.commit(request)
        if request.id in self._followers and request.num_computed_tokens >= request.num_prompt_tokens:
            self._fork_followers(request)
        prompt_logprobs = _unsent_prompt_logprobs(request, scheduled, result)
        reason: FinishReason | None = None
        stop_reason: int | None = None
        token_ids: list[int] = []
        for token in result.token_ids:
            request.token_ids.append(token)
            token_ids.append(token)
            reason, stop_reason = _why_stop(request, token)
            if reason is not None:
                break
        if result.is_complete and reason is None:
            reason = FinishReason.STOP
        logprobs = None if result.logprobs is None else result.logprobs[: len(token_ids)]
        if reason is not None:
            return [
                self._finish(
                    request,
                    token_ids=token_ids,
                    logprobs=logprobs,
                    prompt_logprobs=prompt_logprobs,
                    finish_reason=reason,
                    stop_reason=stop_reason,
                )
            ]
        if token_ids or prompt_logprobs:
            return [_event(request, token_ids=token_ids, logprobs=logprobs, prompt_logprobs=prompt_logprobs)]
        return []

    def _finish(self, request: Request, **news: Any) -> SequenceEvent:
        """End a request: its blocks go back, its followers find another leader; returns its last event."""
        if request.status is RequestStatus.RUNNING:
            self.running.remove(request)
        elif request.status is RequestStatus.FORKING:
            assert request.leader_id is not None
            self._followers[request.leader_id].remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        self.cache.free(request)
        del self._requests[request.id]
        request.status = RequestStatus.FINISHED
        if request.is_known_to_worker:
            self._finished_ids.append(request.id)
        followers = self._followers.pop(request.id, [])
        if followers:
            leader, *others = followers
            leader.status, leader.leader_id = RequestStatus.WAITING, None
            self.waiting.push(leader)
            self._follow(leader, others)
        return _event(request, **news)

    def _follow(self, leader: Request, followers: list[Request]) -> None:
        for follower in followers:
            follower.status, follower.leader_id = RequestStatus.FORKING, leader.id
        if followers:
            self._followers[leader.id] = followers

    def _fork_followers(self, leader: Request) -> None:
        """The prompt is computed: its other samples share the blocks and compute only its last token again.

        That gives each its own logits to sample from, by the one path there is. A follower for
        which there is no seat waits and computes the prompt itself.
        """
        num_prompt_tokens = leader.num_prompt_tokens
        for follower in self._followers.pop(leader.id):
            follower.leader_id = None
            follower.status = RequestStatus.WAITING
            if len(self.running) < self.limits.max_num_seqs:
                self.cache.fork(leader, follower, num_prompt_tokens)
                follower.num_computed_tokens = num_prompt_tokens - 1
                follower.num_cached_tokens = leader.num_cached_tokens
                follower.scheduled_s = leader.scheduled_s
                self._start(follower)
            else:
                self.waiting.push(follower)


def _introduce(request: Request) -> NewRequest:
    stop_token_ids = set(request.params.stop_token_ids)
    if not request.params.ignore_eos:
        stop_token_ids |= request.eos_token_ids
    return NewRequest(
        request.id,
        list(request.token_ids),
        request.num_prompt_tokens,
        request.params,
        request.seed,
        sorted(stop_token_ids),
    )


def _why_stop(request: Request, token: int) -> tuple[FinishReason | None, int | None]:
    """Why the sequence ends with `token`, its newest, and the stop id if that is why."""
    params = request.params
    if request.num_output_tokens >= params.min_tokens:
        if token in request.eos_token_ids and not params.ignore_eos:
            return FinishReason.STOP, None
        if token in params.stop_token_ids:
            return FinishReason.STOP, token
    if request.num_output_tokens >= request.max_tokens:
        return FinishReason.LENGTH, None
    return None, None


def _unsent_prompt_logprobs(
    request: Request, scheduled: ScheduledRequest, result: RequestResult
) -> list[TokenLogprobs] | None:
    """The chunk's prompt log-probabilities, less those that were sent before a preemption."""
    if not result.prompt_logprobs:
        return None
    num_sent = request.num_prompt_logprobs_sent
    request.num_prompt_logprobs_sent = max(num_sent, scheduled.start + len(result.prompt_logprobs))
    return result.prompt_logprobs[max(0, num_sent - scheduled.start) :] or None


def _event(request: Request, *, token_ids: list[int] | None = None, **news: Any) -> SequenceEvent:
    request_id, index = split_sequence_id(request.id)
    return SequenceEvent(
        request_id,
        index,
        token_ids or [],
        num_cached_tokens=max(0, request.num_cached_tokens),
        scheduled_s=request.scheduled_s,
        **news,
    )
