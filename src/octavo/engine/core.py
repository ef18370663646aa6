"""The step loop: schedule, execute, update, publish."""

import concurrent.futures
import logging
import time
from typing import Any, NamedTuple

from octavo.core.errors import OctavoError
from octavo.core.logs import of_request
from octavo.core.messages import (
    AbortRequest,
    EngineRequest,
    OutputBatch,
    SequenceEvent,
    sequence_id,
)
from octavo.core.request import FinishReason, Request, RequestFailure
from octavo.scheduler import Scheduler
from octavo.tokenizer.grammar import Grammars
from octavo.worker import ModelRunner

logger = logging.getLogger(__name__)

_MIX = 0x9E3779B97F4A7C15
"""2⁶⁴ / φ: spreads the samples' seeds."""


class _WaitsForGrammar(NamedTuple):
    request: EngineRequest
    grammar: "concurrent.futures.Future[Any]"


class EngineCore:
    """Drives one scheduler and one model runner. Not thread-safe: whoever owns it calls it from one thread."""

    def __init__(self, scheduler: Scheduler, runner: ModelRunner, grammars: Grammars) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.grammars = grammars
        self._open: dict[str, set[int]] = {}
        self._waiting: dict[str, _WaitsForGrammar] = {}
        self._pending: list[SequenceEvent] = []

    def add(self, request: EngineRequest) -> None:
        """Queue a checked request, when its grammar is compiled where it has one; its `n` samples become sequences."""
        assert request.id not in self._open, f"request id {request.id} is in use"
        self._open[request.id] = set(range(request.params.n))
        outputs = request.params.structured_outputs
        if outputs is None:
            self._queue(request)
        else:
            grammar = self.grammars.prepare(request.id, outputs, request.client)
            self._waiting[request.id] = _WaitsForGrammar(request, grammar)

    def abort(self, abort: AbortRequest) -> None:
        """End a request's sequences now; their last events come with the next step's. Unknown ids are passed over."""
        if abort.id in self._waiting:
            self._queue(self._waiting.pop(abort.id).request)
        indices = self._open.get(abort.id, set()) if abort.indices is None else abort.indices
        for index in sorted(indices):
            event = self.scheduler.abort(sequence_id(abort.id, index), abort.reason)
            if event is not None:
                self._pending.append(event)

    def has_work(self) -> bool:
        """Whether a step would do something; a request whose grammar is being compiled is no work yet."""
        if self._pending or self.scheduler.has_work():
            return True
        return any(waiting.grammar.done() for waiting in self._waiting.values())

    @property
    def is_waiting(self) -> bool:
        """Whether a request waits for its grammar."""
        return bool(self._waiting)

    def wait_for_grammar(self, timeout_s: float | None = None) -> None:
        """Until one that a request waits for is compiled."""
        grammars = [waiting.grammar for waiting in self._waiting.values()]
        concurrent.futures.wait(grammars, timeout_s, concurrent.futures.FIRST_COMPLETED)

    def close(self) -> None:
        """Compile nothing more."""
        self.grammars.close()

    def step(self) -> OutputBatch:
        """One step. A pass that fails ends the requests that were in it, and no others."""
        self._queue_ready()
        begin_s = time.perf_counter()
        batch = self.scheduler.schedule()
        try:
            output = self.runner.execute(batch)
        except Exception as error:
            ids = ", ".join(scheduled.request_id for scheduled in batch.scheduled)
            logger.exception("step %d failed; in it were %s", batch.step, ids)
            events = self.scheduler.fail_all(batch, f"the step failed: {type(error).__name__}: {error}")
        else:
            events = self.scheduler.update(batch, output)
        pending, self._pending = self._pending, []
        events = pending + events
        for event in events:
            if event.finish_reason is not None:
                self._close(event)
        stats = self.scheduler.stats()
        return OutputBatch(events, stats, time.perf_counter() - begin_s)

    def _queue(self, request: EngineRequest) -> None:
        stop_token_ids = frozenset(request.params.stop_token_ids)
        self.scheduler.add([_sample(request, index, stop_token_ids) for index in range(request.params.n)])

    def _queue_ready(self) -> None:
        """Queue requests whose grammars are compiled."""
        for waiting in [waiting for waiting in self._waiting.values() if waiting.grammar.done()]:
            del self._waiting[waiting.request.id]
            error = waiting.grammar.exception()
            if error is None:
                self._queue(waiting.request)
            else:
                self._pending += _failed(waiting.request, error)

    def _close(self, event: SequenceEvent) -> None:
        indices = self._open[event.request_id]
        indices.discard(event.index)
        if not indices:
            del self._open[event.request_id]
            self.grammars.release(event.request_id)


def _failed(request: EngineRequest, error: BaseException) -> list[SequenceEvent]:
    """The last events of a request whose grammar cannot be compiled."""
    if not isinstance(error, OctavoError):
        logger.error("its grammar failed", exc_info=error, extra=of_request(request.id))
    failure = RequestFailure.of(error)
    return [
        SequenceEvent(request.id, index, [], finish_reason=FinishReason.ERROR, error=failure)
        for index in range(request.params.n)
    ]


def _sample(request: EngineRequest, index: int, stop_token_ids: frozenset[int]) -> Request:
    """The index-th sample of a request, with a seed of its own; sample 0 keeps the request's."""
    return Request(
        id=sequence_id(request.id, index),
        token_ids=list(request.prompt_token_ids),
        num_prompt_tokens=len(request.prompt_token_ids),
        params=request.params,
        seed=(request.seed + index * _MIX) % (1 << 64),
        max_tokens=request.max_tokens,
        eos_token_ids=frozenset(request.eos_token_ids),
        stop_token_ids=stop_token_ids,
        priority=request.priority,
        client=request.client,
        arrival_s=request.arrival_s,
        cache_salt=request.cache_salt,
    )
