"""What the engine's steps did: the newest of them, and totals of all."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from octavo.core.messages import EngineStats, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.server.dashboard.schema import Steps

MAX_STEPS = 64
_NO_STEP = EngineStats(*[0] * len(EngineStats.__struct_fields__))


class _Step(NamedTuple):
    number: int
    num_decode_tokens: int
    num_prefill_tokens: int
    num_requests: int
    step_s: float


class StepLog:
    """Takes note of each step, in memory that never grows. Used on the event loop only."""

    def __init__(self) -> None:
        self.stats = _NO_STEP
        """After the newest step."""
        self.num_batches = 0
        self.num_generated_tokens = 0
        self.num_prefilled_tokens = 0
        self._steps: deque[_Step] = deque(maxlen=MAX_STEPS)

    def observe(self, batch: OutputBatch, deltas: Sequence[RequestDelta]) -> None:
        """O(the step's events)."""
        stats = self.stats = batch.stats
        self.num_batches += 1
        self.num_generated_tokens += sum(len(event.token_ids) for event in batch.events)
        self.num_prefilled_tokens += stats.num_prefill_tokens
        if stats.num_step_requests:
            self._steps.append(
                _Step(
                    stats.step, stats.num_decode_tokens, stats.num_prefill_tokens, stats.num_step_requests, batch.step_s
                )
            )

    def steps(self) -> Steps:
        return Steps(
            step=[step.number for step in self._steps],
            decode_tokens=[step.num_decode_tokens for step in self._steps],
            prefill_tokens=[step.num_prefill_tokens for step in self._steps],
            requests=[step.num_requests for step in self._steps],
            step_ms=[round(1e3 * step.step_s, 3) for step in self._steps],
        )
