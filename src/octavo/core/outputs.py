"""What a caller of `LLM` gets back."""

from dataclasses import dataclass, field

import msgspec

from octavo.core.messages import TokenLogprobs
from octavo.core.request import FinishReason, RequestFailure


class Logprob(msgspec.Struct, gc=False):
    """One token's log-probability (natural log, of the raw logits), its rank from 1 and its text."""

    logprob: float
    rank: int
    decoded_token: str | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One sample. `logprobs[i]` maps token id → `Logprob` for the i-th output token: it and the top ones."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] | None = None
    cumulative_logprob: float | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    """The stop string or stop token id that ended it; None for EOS and length."""


@dataclass(slots=True)
class RequestMetrics:
    """Times of one request, in seconds. `tpot_s` is the mean time per output token after the first."""

    arrival_s: float
    """`time.monotonic()` when the request entered."""
    queue_s: float = 0.0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0


@dataclass(slots=True)
class RequestOutput:
    """A request's answer so far; final when `is_finished`."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    """Entry 0 is None: nothing comes before the first token."""
    num_cached_tokens: int = 0
    metrics: RequestMetrics | None = None
    is_finished: bool = False
    error: str | None = None
    """Why it failed."""


@dataclass(slots=True)
class CompletionDelta:
    """What one sample gained since the last delta. Joining the texts gives the whole text, byte for byte."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None


@dataclass(slots=True)
class RequestDelta:
    """What a request gained since the last delta; the last one has `is_finished` and the metrics.

    `error` is set from the first sample on that failed: such samples end with `FinishReason.ERROR`.
    """

    request_id: str
    outputs: list[CompletionDelta]
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs] | None = None
    """Of the second prompt token on; whole, in the first delta after the prompt was computed, and as it was computed:
    `octavo.engine.logprobs` makes it readable, which takes long for a long prompt."""
    metrics: RequestMetrics | None = None
    is_finished: bool = False
    error: RequestFailure | None = None
