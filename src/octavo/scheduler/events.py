"""What the scheduler tells others of a request: its introduction to the worker, its events, why it stops."""

from typing import Any

from octavo.core.messages import (
    BlockTableUpdate,
    NewRequest,
    RequestResult,
    ScheduledRequest,
    SequenceEvent,
    TokenLogprobs,
    split_sequence_id,
)
from octavo.core.request import FinishReason, Request


def introduce(request: Request) -> NewRequest:
    """What the worker must know of it, before its first step."""
    stop_token_ids: frozenset[int] = frozenset()
    if request.params.min_tokens:
        stop_token_ids = request.stop_token_ids
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


def why_stop(request: Request, token: int) -> tuple[FinishReason | None, int | None]:
    """Why the sequence ends with `token`, its newest, and the stop id if that is why."""
    params = request.params
    if request.num_output_tokens >= params.min_tokens:
        if token in request.eos_token_ids and not params.ignore_eos:
            return FinishReason.STOP, None
        if token in request.stop_token_ids:
            return FinishReason.STOP, token
    if request.num_output_tokens >= request.max_tokens:
        return FinishReason.LENGTH, None
    return None, None


def instruct(request: Request, num_tokens: int, updates: list[BlockTableUpdate]) -> ScheduledRequest:
    """What the worker is to compute of it in a step."""
    start = request.num_computed_tokens
    end = start + num_tokens
    return ScheduledRequest(
        request.id, start, request.token_ids[start:end], updates, is_sampled=end == request.num_tokens
    )


def take_in(request: Request, scheduled: ScheduledRequest, result: RequestResult) -> SequenceEvent | None:
    """Append what was sampled, up to where the sequence stops; None where there is no news."""
    prompt_logprobs = unsent_prompt_logprobs(request, scheduled, result)
    reason: FinishReason | None = None
    stop_reason: int | None = None
    token_ids: list[int] = []
    for token in result.token_ids:
        request.token_ids.append(token)
        token_ids.append(token)
        reason, stop_reason = why_stop(request, token)
        if reason is not None:
            break
    if result.is_complete and reason is None:
        reason = FinishReason.STOP
    if not (token_ids or prompt_logprobs or reason):
        return None
    return event_of(
        request,
        token_ids=token_ids,
        logprobs=None if result.logprobs is None else result.logprobs[: len(token_ids)],
        prompt_logprobs=prompt_logprobs,
        finish_reason=reason,
        stop_reason=stop_reason,
    )


def unsent_prompt_logprobs(
    request: Request, scheduled: ScheduledRequest, result: RequestResult
) -> list[TokenLogprobs] | None:
    """The chunk's prompt log-probabilities, less those that were sent before a preemption."""
    if not result.prompt_logprobs:
        return None
    num_sent = request.num_prompt_logprobs_sent
    request.num_prompt_logprobs_sent = max(num_sent, scheduled.start + len(result.prompt_logprobs))
    return result.prompt_logprobs[max(0, num_sent - scheduled.start) :] or None


def event_of(request: Request, *, token_ids: list[int] | None = None, **news: Any) -> SequenceEvent:
    """News of the request; `news` are fields of `SequenceEvent`."""
    request_id, index = split_sequence_id(request.id)
    return SequenceEvent(
        request_id,
        index,
        token_ids or [],
        num_cached_tokens=max(0, request.num_cached_tokens),
        scheduled_s=request.scheduled_s,
        **news,
    )
