"""The open requests of a front end, each with the queue that its reader takes deltas from."""

import asyncio
from typing import NamedTuple

from octavo.core.messages import AbortRequest, EngineRequest, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.engine.output_processor import OutputProcessor


class _Reader(NamedTuple):
    """Who reads a request's deltas, and what it calls the request."""

    request_id: str
    queue: "asyncio.Queue[RequestDelta]"


class Streams:
    """Turns what the engine publishes to deltas, and hands each to its reader. One event loop's."""

    def __init__(self, output: OutputProcessor) -> None:
        self._output = output
        self._readers: dict[str, _Reader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def open(self, request: EngineRequest, request_id: str) -> "asyncio.Queue[RequestDelta]":
        """The request's deltas as they will come, under the id that its reader gives it."""
        reader = self._readers[request.id] = _Reader(request_id, asyncio.Queue())
        self._output.add(request)
        return reader.queue

    def close(self, engine_id: str) -> bool:
        """Nobody reads it any longer; whether it goes on in the engine. Idempotent."""
        self._readers.pop(engine_id, None)
        return self._output.fail(engine_id, "aborted") is not None

    def take_in(self, batch: OutputBatch) -> tuple[list[RequestDelta], list[AbortRequest]]:
        """What a step brought: deltas, handed to their readers and under their ids, and what is to be aborted."""
        deltas, aborts = self._output.process(batch)
        for delta in deltas:
            self._hand_over(delta)
        return deltas, aborts

    def fail(self, message: str) -> None:
        """End every open request with an error."""
        for engine_id in list(self._readers):
            delta = self._output.fail(engine_id, message)
            if delta is not None:
                self._hand_over(delta)

    def _hand_over(self, delta: RequestDelta) -> None:
        reader = self._readers.get(delta.request_id)
        if reader is not None:
            delta.request_id = reader.request_id
            reader.queue.put_nowait(delta)
