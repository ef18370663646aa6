"""What a step took and gave, by an engine that is made up and by a real one."""

from typing import Any

import pytest

from octavo.bench.techniques.stepping import SteppedEngine, digest
from octavo.bench.techniques.subject import Subject
from octavo.core.errors import EngineDeadError
from octavo.core.messages import EngineStats, OutputBatch, SequenceEvent
from octavo.core.request import FinishReason, RequestFailure

STATS = EngineStats(
    step=1,
    num_running=2,
    num_waiting=0,
    num_blocks=8,
    num_free_blocks=8,
    num_cached_blocks=0,
    num_held_blocks=0,
    num_preemptions=0,
    prefix_cache_queries=0,
    prefix_cache_hits=0,
    num_step_requests=5,
    num_decode_tokens=5,
    num_prefill_tokens=0,
)


class ScriptedCore:
    def __init__(self, events: list[SequenceEvent]) -> None:
        self.events = events
        self.requests: list[Any] = []

    def add(self, request: Any) -> None:
        self.requests.append(request)

    def step(self) -> OutputBatch:
        return OutputBatch(self.events, STATS)


def test_a_step_tells_who_had_a_seat_and_what_each_was_given() -> None:
    core: Any = ScriptedCore(
        [SequenceEvent("0", 0, [7]), SequenceEvent("1", 0, [8], finish_reason=FinishReason.LENGTH)]
    )
    engine = SteppedEngine(core)
    ids = [engine.add([1, 2], 3), engine.add([3], 1)]
    assert ids == ["0", "1"]
    assert [request.max_tokens for request in core.requests] == [3, 1]
    step = engine.step()
    assert step.token_ids == {"0": [7], "1": [8]}
    assert (step.num_running, step.num_tokens) == (3, 5)  # the one that ended had a seat too
    assert step.begin_s <= step.end_s
    engine.step()
    assert engine.answer("0") == [7, 7]


def test_a_failed_request_ends_the_measurement() -> None:
    failed = SequenceEvent("0", 0, [], finish_reason=FinishReason.ERROR, error=RequestFailure("no blocks"))
    core: Any = ScriptedCore([failed])
    engine = SteppedEngine(core)
    engine.add([1], 1)
    with pytest.raises(EngineDeadError, match="nothing was measured: no blocks"):
        engine.step()


def test_an_answer_has_the_length_asked_for(subject: Subject) -> None:
    engine = SteppedEngine(subject.engine())
    ids = [engine.add([5] * 20, 3), engine.add([6] * 9, 1)]
    steps = engine.run()
    assert [len(engine.answer(each)) for each in ids] == [3, 1]
    assert len(steps) == 3
    assert sum(step.num_tokens for step in steps) == 20 + 9 + 2
    assert engine.run() == []


def test_a_digest_knows_where_answers_end() -> None:
    assert digest([[1, 2], [3]]) == digest([[1, 2], [3]])
    assert digest([[1, 2], [3]]) != digest([[1], [2, 3]])
