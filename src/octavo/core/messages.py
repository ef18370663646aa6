"""The messages that cross a seam: plain data, encoded by msgspec, never pickled.

front end ──EngineRequest, AbortRequest──▶ engine core ──OutputBatch──▶ front end
scheduler ──SchedulerOutput──▶ worker ──ModelOutput──▶ scheduler
"""

from enum import IntEnum

import msgspec

from octavo.core.request import FinishReason, RequestFailure
from octavo.core.sampling_params import SamplingParams


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Frozen and encoded by position."""


# ── scheduler → worker ───────────────────────────────────────────────────────────────────────────


class NewRequest(_Message, frozen=True):
    """What the worker must know of a request, once, before its first step."""

    request_id: str
    token_ids: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    seed: int
    stop_token_ids: list[int]
    """EOS and stop ids, which `min_tokens` forbids until it is reached; none where it asks for none."""


class BlockTableUpdate(_Message, frozen=True):
    """Write `block_ids` into the request's block table of one cache group, from entry `start` on."""

    start: int
    block_ids: list[int]


class ScheduledRequest(_Message, frozen=True):
    """Compute positions `start … start + len(token_ids) - 1` of one request."""

    request_id: str
    start: int
    token_ids: list[int]
    block_updates: list[BlockTableUpdate]
    """One a cache group, or none where no table changed."""
    is_sampled: bool
    """Whether its last token is the last one known, so that the next is to be sampled."""


class BlockCopy(_Message, frozen=True):
    """Copy a whole block, in every layer it holds, before the step's forward pass (copy-on-write)."""

    source: int
    target: int


class SchedulerOutput(_Message, frozen=True):
    """One step's work. `scheduled` is ordered: decodes first, then prefill chunks."""

    step: int
    new_requests: list[NewRequest]
    scheduled: list[ScheduledRequest]
    block_copies: list[BlockCopy]
    finished_ids: list[str]
    """Requests whose rows the worker may drop before this step."""

    @property
    def num_tokens(self) -> int:
        return sum(len(request.token_ids) for request in self.scheduled)


# ── worker → scheduler ───────────────────────────────────────────────────────────────────────────


class TokenLogprobs(_Message, frozen=True):
    """Natural-log probabilities at one position: the token's own, its rank from 1, and the top ones."""

    token_id: int
    logprob: float
    rank: int
    top_token_ids: list[int]
    top_logprobs: list[float]


class RequestResult(_Message, frozen=True):
    """What one scheduled request gave: sampled ids (none for an unfinished chunk) or an error."""

    request_id: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    """For prompt positions start+1 … : the log-probability of the prompt token at that position."""
    is_complete: bool = False
    """Its grammar allows nothing behind these tokens."""
    error: RequestFailure | None = None


class ModelOutput(_Message, frozen=True):
    """One result a scheduled request, in the order scheduled."""

    results: list[RequestResult]


# ── front end → engine core ──────────────────────────────────────────────────────────────────────


class EngineRequest(_Message, frozen=True):
    """A checked, tokenised request. `params.n` samples are drawn; their sequences are `index` 0 … n-1."""

    id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    seed: int
    max_tokens: int
    eos_token_ids: list[int]
    arrival_s: float
    """`time.monotonic()` when the request entered: one clock for all processes of a machine."""
    priority: int = 0
    cache_salt: str = ""
    client: str = ""


class AbortRequest(_Message, frozen=True):
    """End a request's sequences: all, or those of `indices`. `reason` goes into their last event."""

    id: str
    indices: list[int] | None = None
    reason: FinishReason = FinishReason.ABORT


# ── engine core → front end ──────────────────────────────────────────────────────────────────────


class SequenceEvent(_Message, frozen=True):
    """News of one sequence. Exactly one event of a sequence has a `finish_reason`: its last."""

    request_id: str
    index: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    """The stop token id that ended it, where that was not EOS."""
    error: RequestFailure | None = None
    num_cached_tokens: int = 0
    scheduled_s: float = 0.0
    """`time.monotonic()` when it first ran."""


class EngineStats(_Message, frozen=True):
    """Gauges and running totals of one engine, after a step."""

    step: int
    num_running: int
    num_waiting: int
    num_blocks: int
    num_free_blocks: int
    num_cached_blocks: int
    num_held_blocks: int
    num_preemptions: int
    prefix_cache_queries: int
    """Prompt tokens looked up."""
    prefix_cache_hits: int
    """Prompt tokens found."""
    num_step_requests: int
    """Sequences that the step computed tokens of."""
    num_decode_tokens: int
    """Of those tokens, the newest of a sequence that had been computed up to it: one each."""
    num_prefill_tokens: int
    """The others: of prompts, and of what is computed again after a preemption."""

    @property
    def num_step_tokens(self) -> int:
        return self.num_decode_tokens + self.num_prefill_tokens


class BlockState(IntEnum):
    """Who reads a KV block; law 3's held blocks are private or shared."""

    FREE = 0
    CACHED = 1
    """Nobody, but it holds a prefix that a later request may reuse; evicted where blocks run out."""
    PRIVATE = 2
    """One sequence."""
    SHARED = 3
    """Several sequences: a prefix that they have in common."""


class BlockMap(_Message, frozen=True):
    """The KV blocks by state, and a picture of them that is never larger than a screen can show."""

    step: int
    """After which they were so."""
    num_free: int
    num_cached: int
    num_private: int
    num_shared: int
    blocks_per_cell: int
    cells: bytes
    """In the order of block ids: the `BlockState` of most blocks of each cell, the busier where two are as many."""


class OutputBatch(_Message, frozen=True):
    """What one step published."""

    events: list[SequenceEvent]
    stats: EngineStats
    step_s: float = 0.0
    """How long the step took."""


def sequence_id(request_id: str, index: int) -> str:
    """The scheduler's name of one sample of a request: «id/index»."""
    return f"{request_id}/{index}"


def split_sequence_id(sequence: str) -> tuple[str, int]:
    request_id, _, index = sequence.rpartition("/")
    return request_id, int(index)
