"""What a step published, as deltas."""

from typing import Any

from octavo.core.messages import EngineRequest, OutputBatch, SequenceEvent
from octavo.core.request import FinishReason, RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.engine.output_processor import OutputProcessor


def test_a_sample_that_fails_says_why_before_the_others_have_ended() -> None:
    """Else its reader would see a sample that ended with an error, and no reason: a fault of the server's."""
    output, stats = OutputProcessor(None), None
    output.add(EngineRequest("r", [5], SamplingParams(n=2), 0, 8, [], 0.0))

    def delta(event: SequenceEvent) -> Any:
        [delta], aborts = output.process(OutputBatch([event], stats))  # type: ignore[arg-type]
        assert not aborts
        return delta

    why = RequestFailure("too much", is_of_request=True)
    first = delta(SequenceEvent("r", 1, [], finish_reason=FinishReason.ERROR, error=why))
    assert first.error == why
    assert not first.is_finished
    last = delta(SequenceEvent("r", 0, [7], finish_reason=FinishReason.LENGTH))
    assert last.error == why
    assert last.is_finished
