"""From token events to text: detokenise, find stop strings, time; one delta a request and step."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.core.logs import of_request
from octavo.core.messages import AbortRequest, EngineRequest, OutputBatch, SequenceEvent, TokenLogprobs
from octavo.core.outputs import CompletionDelta, Logprob, RequestDelta, RequestMetrics
from octavo.core.request import FinishReason, RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.engine.logprobs import readable
from octavo.tokenizer.detokenizer import IncrementalDetokenizer
from octavo.tokenizer.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sequence:
    detokenizer: IncrementalDetokenizer | None
    num_tokens: int = 0
    is_finished: bool = False


@dataclass(slots=True)
class _OpenRequest:
    params: SamplingParams
    end_token_ids: frozenset[int]
    num_prompt_tokens: int
    sequences: list[_Sequence]
    metrics: RequestMetrics
    prompt_logprobs: list[TokenLogprobs] | None
    num_cached_tokens: int = 0
    first_token_s: float = 0.0
    error: RequestFailure | None = None
    delta: RequestDelta | None = field(default=None)


class OutputProcessor:
    """Follows the open requests of one engine. Not thread-safe."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._open: dict[str, _OpenRequest] = {}

    def add(self, request: EngineRequest) -> None:
        """Expect events of this request."""
        params = request.params
        self._open[request.id] = _OpenRequest(
            params,
            frozenset((*request.eos_token_ids, *params.stop_token_ids)),
            len(request.prompt_token_ids),
            [_Sequence(self._detokenizer(params)) for _ in range(params.n)],
            RequestMetrics(arrival_s=request.arrival_s),
            None if params.prompt_logprobs is None else [],
        )

    def process(self, batch: OutputBatch) -> tuple[list[RequestDelta], list[AbortRequest]]:
        """A delta for each request with news, and what ended here, to be aborted: by a stop string, or by an exception,
        which ends the request that it was raised for.
        """
        touched: dict[str, _OpenRequest] = {}
        deltas: list[RequestDelta] = []
        aborts = []
        for event in batch.events:
            request = self._open.get(event.request_id)
            if request is None or request.sequences[event.index].is_finished:
                continue  # it ended here, by a stop string, before the engine knew
            touched[event.request_id] = request
            try:
                is_stopped = self._take(request, event)
            except Exception as error:
                logger.exception("its output could not be read", extra=of_request(event.request_id))
                deltas.append(
                    self._end(event.request_id, touched.pop(event.request_id), f"{type(error).__name__}: {error}")
                )
                aborts.append(AbortRequest(event.request_id))
                continue
            if is_stopped:
                aborts.append(AbortRequest(event.request_id, [event.index], FinishReason.STOP))
        for request_id, request in touched.items():
            delta, request.delta = request.delta, None
            assert delta is not None
            if all(sequence.is_finished for sequence in request.sequences):
                del self._open[request_id]
                self._finish(request, delta)
            deltas.append(delta)
        return deltas, aborts

    def fail(self, request_id: str, message: str) -> RequestDelta | None:
        """End a request from this side, because its engine is gone; None if it has ended already."""
        request = self._open.get(request_id)
        return None if request is None else self._end(request_id, request, message)

    def _end(self, request_id: str, request: _OpenRequest, message: str) -> RequestDelta:
        """Close it with an error in every sequence that goes on."""
        del self._open[request_id]
        delta = self._delta(request_id, request)
        request.error = RequestFailure(message)
        for index, sequence in enumerate(request.sequences):
            if not sequence.is_finished:
                delta.outputs.append(CompletionDelta(index, finish_reason=FinishReason.ERROR))
        self._finish(request, delta)
        return delta

    def _take(self, request: _OpenRequest, event: SequenceEvent) -> bool:
        """Add an event to the request's delta; True if a stop string ended the sequence here."""
        now = time.monotonic()
        sequence = request.sequences[event.index]
        request.num_cached_tokens = max(request.num_cached_tokens, event.num_cached_tokens)
        delta = self._delta(event.request_id, request)
        self._take_prompt_logprobs(request, event, delta)
        token_ids = event.token_ids
        piece_text, stop_string = "", None
        if token_ids and request.first_token_s == 0.0:
            request.first_token_s = now
            request.metrics.queue_s = event.scheduled_s - request.metrics.arrival_s
            request.metrics.ttft_s = now - request.metrics.arrival_s
        if sequence.detokenizer is not None:
            piece = sequence.detokenizer.push(self._visible(request, event))
            piece_text, stop_string = piece.text, piece.stop_string
            if stop_string is not None:
                token_ids = token_ids[: piece.num_tokens_used]
        finish_reason, stop_reason = event.finish_reason, event.stop_reason
        if stop_string is not None:
            finish_reason, stop_reason = FinishReason.STOP, stop_string
        elif finish_reason is not None and sequence.detokenizer is not None:
            piece_text += sequence.detokenizer.finish()
        sequence.num_tokens += len(token_ids)
        sequence.is_finished = finish_reason is not None
        request.error = delta.error = request.error or event.error
        delta.outputs.append(
            CompletionDelta(
                event.index,
                piece_text,
                token_ids,
                None if event.logprobs is None else self._readable(event.logprobs[: len(token_ids)]),
                finish_reason,
                stop_reason,
            )
        )
        return stop_string is not None and event.finish_reason is None

    def _take_prompt_logprobs(self, request: _OpenRequest, event: SequenceEvent, delta: RequestDelta) -> None:
        """Collect the prompt's log-probabilities; they go out whole with the first sampled token."""
        if request.prompt_logprobs is None or event.index != 0:
            return
        request.prompt_logprobs += event.prompt_logprobs or []
        if event.token_ids and request.first_token_s == 0.0:
            delta.prompt_logprobs = request.prompt_logprobs

    def _visible(self, request: _OpenRequest, event: SequenceEvent) -> Sequence[int]:
        """The event's tokens that belong to the text: not the token that stopped it, unless asked for."""
        last = event.token_ids[-1:]
        ended_by_token = event.finish_reason is FinishReason.STOP and not request.end_token_ids.isdisjoint(last)
        if ended_by_token and not request.params.include_stop_str_in_output:
            return event.token_ids[:-1]
        return event.token_ids

    def _finish(self, request: _OpenRequest, delta: RequestDelta) -> None:
        now = time.monotonic()
        metrics = request.metrics
        metrics.e2e_s = now - metrics.arrival_s
        num_later_tokens = max(sequence.num_tokens for sequence in request.sequences) - 1
        if num_later_tokens > 0:
            metrics.tpot_s = (now - request.first_token_s) / num_later_tokens
        delta.is_finished = True
        delta.metrics = metrics
        delta.error = request.error
        delta.num_cached_tokens = request.num_cached_tokens

    def _delta(self, request_id: str, request: _OpenRequest) -> RequestDelta:
        if request.delta is None:
            request.delta = RequestDelta(request_id, [], request.num_prompt_tokens, request.num_cached_tokens)
        return request.delta

    def _detokenizer(self, params: SamplingParams) -> IncrementalDetokenizer | None:
        if self._tokenizer is None or not params.detokenize:
            return None
        return IncrementalDetokenizer(
            self._tokenizer,
            skip_special_tokens=params.skip_special_tokens,
            shown_special_token_ids=params.shown_special_token_ids,
            stop=params.stop,
            include_stop_str_in_output=params.include_stop_str_in_output,
            min_tokens=params.min_tokens,
        )

    def _readable(self, entries: Sequence[TokenLogprobs]) -> list[dict[int, Logprob]]:
        return [readable(self._tokenizer, entry) for entry in entries]
