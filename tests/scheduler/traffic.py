"""Random traffic for a scheduler without a model: arrivals, aborts, shared prefixes, forks, windows."""

import random

from octavo.cache import KVCacheManager, plan_layout
from octavo.core.cache_spec import CacheSpec, FullAttentionSpec, KVDtype, SlidingWindowSpec
from octavo.core.messages import (
    ModelOutput,
    RequestResult,
    SchedulerOutput,
    SequenceEvent,
    sequence_id,
)
from octavo.core.request import FinishReason, Request, RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler, SchedulerLimits
from octavo.scheduler.policy import POLICIES

VOCAB = 50
ROW_ERRORS = 0.005
FAILED_PASSES = 0.005


def full(block_size: int) -> FullAttentionSpec:
    return FullAttentionSpec(
        block_size=block_size, num_kv_heads=1, key_head_dim=4, value_head_dim=4, dtype=KVDtype.FP32
    )


def windowed(block_size: int, window: int) -> SlidingWindowSpec:
    return SlidingWindowSpec(
        block_size=block_size, num_kv_heads=1, key_head_dim=4, value_head_dim=4, dtype=KVDtype.FP32, window=window
    )


def make_scheduler(
    specs: list[CacheSpec], num_blocks: int, *, policy: str = "fcfs", prefix_caching: bool = True, **limits: int | bool
) -> Scheduler:
    options = {"max_num_seqs": 8, "max_num_batched_tokens": 64} | limits
    cache = KVCacheManager(plan_layout(specs), num_blocks, enable_prefix_caching=prefix_caching)
    return Scheduler(SchedulerLimits(**options), cache, POLICIES[policy]())


def make_samples(request_id: str, prompt: list[int], params: SamplingParams, **fields: object) -> list[Request]:
    return [
        Request(
            id=sequence_id(request_id, index),
            token_ids=list(prompt),
            num_prompt_tokens=len(prompt),
            params=params,
            seed=index,
            max_tokens=params.max_tokens or 16,
            stop_token_ids=frozenset(params.stop_token_ids),
            **fields,
        )
        for index in range(params.n)
    ]


class SlotOracle:
    """Plays the worker: writes each position's *meaning* into its slot and checks what attention would read.

    A position's meaning is the whole prefix up to it, hashed: so a block that is shared wrongly,
    freed early, copied late or overwritten shows as a mismatch.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.layout = scheduler.cache.layout
        self.block_size = self.layout.block_size
        self.slots: dict[tuple[int, int], tuple[int, int]] = {}
        self.tables: dict[str, list[list[int]]] = {}

    def execute(self, batch: SchedulerOutput, rng: random.Random, tokens: dict[str, list[int]]) -> ModelOutput:
        for finished in batch.finished_ids:
            self.tables.pop(finished, None)
        for copy in batch.block_copies:
            for offset in range(self.block_size):
                if (copy.source, offset) in self.slots:
                    self.slots[copy.target, offset] = self.slots[copy.source, offset]
        for scheduled in batch.scheduled:
            tables = self.tables.setdefault(scheduled.request_id, [[] for _ in self.layout.groups])
            assert len(scheduled.block_updates) in (0, len(tables))
            for table, update in zip(tables, scheduled.block_updates, strict=False):
                del table[update.start :]
                table += update.block_ids
            sequence = tokens[scheduled.request_id]
            assert sequence[scheduled.start : scheduled.start + len(scheduled.token_ids)] == scheduled.token_ids
            for position in range(scheduled.start, scheduled.start + len(scheduled.token_ids)):
                for group, table in enumerate(tables):
                    slot = (table[position // self.block_size], position % self.block_size)
                    assert slot[0] != 0, "a written position has no block"
                    self.slots[slot] = (group, hash(tuple(sequence[: position + 1])))
        results = []
        for scheduled in batch.scheduled:
            self._check_reads(scheduled.request_id, scheduled.start, len(scheduled.token_ids), tokens)
            sampled = [rng.randrange(VOCAB)] if scheduled.is_sampled else []
            error = RequestFailure("injected") if rng.random() < ROW_ERRORS else None
            results.append(RequestResult(scheduled.request_id, [] if error else sampled, error=error))
        return ModelOutput(results)

    def _check_reads(self, request_id: str, start: int, count: int, tokens: dict[str, list[int]]) -> None:
        sequence = tokens[request_id]
        for group, (members, table) in enumerate(zip(self.layout.groups, self.tables[request_id], strict=True)):
            for position in range(members.spec.first_readable_token(start), start + count):
                slot = (table[position // self.block_size], position % self.block_size)
                assert self.slots[slot] == (group, hash(tuple(sequence[: position + 1]))), (
                    f"{request_id} group {group} reads another's key at {position}"
                )


class Traffic:
    """Drives a scheduler at random and checks law 3 after every step."""

    def __init__(self, scheduler: Scheduler, seed: int, *, max_prompt: int = 60, max_output: int = 20) -> None:
        self.scheduler = scheduler
        self.rng = random.Random(seed)
        self.oracle = SlotOracle(scheduler)
        self.tokens: dict[str, list[int]] = {}
        self.ended: dict[str, FinishReason] = {}
        self.prefixes = [[self.rng.randrange(VOCAB) for _ in range(40)] for _ in range(3)]
        self.max_prompt, self.max_output = max_prompt, max_output
        self.num_requests = 0

    def arrive(self) -> None:
        rng = self.rng
        prompt = list(rng.choice(self.prefixes)[: rng.randrange(41)]) if rng.random() < 0.6 else []
        prompt = (prompt + [rng.randrange(VOCAB) for _ in range(rng.randrange(1, self.max_prompt))])[: self.max_prompt]
        params = SamplingParams(
            n=rng.choice([1, 1, 1, 2, 4]),
            max_tokens=rng.randrange(1, self.max_output + 1),
            stop_token_ids=(7,) if rng.random() < 0.3 else (),
        )
        samples = make_samples(
            f"r{self.num_requests}",
            prompt,
            params,
            priority=rng.randrange(3),
            client=rng.choice("aaaaabbc"),
            cache_salt=rng.choice(["", "", "tenant"]),
        )
        self.num_requests += 1
        for request in samples:
            self.tokens[request.id] = list(prompt)
        self.scheduler.add(samples)

    def step(self, arrival_rate: float = 0.5, abort_rate: float = 0.05) -> None:
        while self.rng.random() < arrival_rate:
            self.arrive()
        open_ids = [sequence for sequence in self.tokens if sequence not in self.ended]
        if open_ids and self.rng.random() < abort_rate:
            event = self.scheduler.abort(self.rng.choice(open_ids))
            assert event is not None
            self._take(event)
        batch = self.scheduler.schedule()
        assert batch.num_tokens <= self.scheduler.limits.max_num_batched_tokens
        assert len(batch.scheduled) <= self.scheduler.limits.max_num_seqs
        output = self.oracle.execute(batch, self.rng, self.tokens)
        if self.rng.random() < FAILED_PASSES:
            events = self.scheduler.fail_all(batch, "the pass failed")
        else:
            events = self.scheduler.update(batch, output)
        for event in events:
            self._take(event)
        self.scheduler.cache.pool.check_conserved()

    def drain(self, most_steps: int = 100_000) -> None:
        for _ in range(most_steps):
            if not self.scheduler.has_work():
                break
            self.step(arrival_rate=0.0, abort_rate=0.0)
        assert set(self.ended) == set(self.tokens), "a request never ended"
        assert self.scheduler.cache.pool.num_held == 0, "a block leaked"

    def _take(self, event: SequenceEvent) -> None:
        sequence = sequence_id(event.request_id, event.index)
        assert sequence not in self.ended, "an event after the last one"
        self.tokens[sequence] += event.token_ids
        if event.finish_reason is not None:
            self.ended[sequence] = event.finish_reason
