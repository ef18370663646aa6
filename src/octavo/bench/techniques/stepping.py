"""An engine driven step by step in this thread, so that what a step took and gave can be seen."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from octavo.core.errors import EngineDeadError
from octavo.core.messages import EngineRequest
from octavo.core.sampling_params import SamplingParams
from octavo.engine.core import EngineCore


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the engine; times are of `time.perf_counter`."""

    begin_s: float
    end_s: float
    num_tokens: int
    """Computed."""
    num_running: int
    """Requests that had a seat in it."""
    token_ids: dict[str, list[int]]
    """Request → what it was given."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.begin_s


class SteppedEngine:
    """Requests in, steps out; greedy, and each answer of exactly the length asked for.

    As in the server's engine process, a request that arrives while a step runs is seen when the step has ended.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._answers: list[list[int]] = []
        self._lengths: list[int] = []

    def add(self, prompt_token_ids: Sequence[int], output_len: int) -> str:
        """Queue a request; its id."""
        request_id = str(len(self._answers))
        self._answers.append([])
        self._lengths.append(output_len)
        params = SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        request = EngineRequest(
            request_id, list(prompt_token_ids), params, seed=0, max_tokens=output_len, eos_token_ids=[], arrival_s=0.0
        )
        self._core.add(request)
        return request_id

    def step(self) -> Step:
        """One step. Raises `EngineDeadError` where a request fails: nothing is measured then."""
        begin_s = time.perf_counter()
        batch = self._core.step()
        end_s = time.perf_counter()
        given: dict[str, list[int]] = {}
        num_ended = 0
        for event in batch.events:
            if event.error is not None:
                raise EngineDeadError(f"a request failed, so nothing was measured: {event.error.message}")
            self._answers[int(event.request_id)] += event.token_ids
            given[event.request_id] = event.token_ids
            num_ended += event.finish_reason is not None
        return Step(
            begin_s=begin_s,
            end_s=end_s,
            num_tokens=batch.stats.num_step_tokens,
            num_running=batch.stats.num_running + num_ended,
            token_ids=given,
        )

    def run(self) -> list[Step]:
        """Steps until every request has ended."""
        steps = []
        while self._core.has_work():
            steps.append(self.step())
        return steps

    def answer(self, request_id: str) -> list[int]:
        return self._answers[int(request_id)]


def digest(answers: Sequence[Sequence[int]]) -> str:
    """Equal for equal tokens."""
    return hashlib.sha256(msgspec.json.encode([list(answer) for answer in answers])).hexdigest()
