"""What crosses the socket to the engine comes out as it went in."""

import pytest

from octavo.core.messages import AbortRequest, EngineRequest
from octavo.core.sampling_params import SamplingParams
from octavo.core.structured_outputs import StructuredOutputs
from octavo.engine.wire import Abort, Add, ToEngine, encoder, to_engine_decoder


def crossed(message: ToEngine) -> ToEngine:
    return to_engine_decoder.decode(encoder.encode(message))


def request(request_id: str, params: SamplingParams) -> EngineRequest:
    return EngineRequest(request_id, [3, 4], params, 5, 6, [7], 0.5, priority=1, cache_salt="s", client="c")


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(n=3, stop_token_ids=(5, 6), logit_bias={7: -1.5}, bad_words=("no",), temperature=0),
        SamplingParams(
            structured_outputs=StructuredOutputs(choice=("a", "b")), allowed_token_ids=(1,), max_tokens=None
        ),
    ],
)
def test_a_request_is_whole_on_the_other_side(params: SamplingParams) -> None:
    sent = request("a", params)
    received = crossed(Add.of(sent))
    assert isinstance(received, Add) and received.whole() == sent


def test_prompts_of_one_call_share_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists as long as the vocabulary are decoded, checked and held once, not once a prompt."""
    num_checked = 0
    check = SamplingParams._validate

    def counted(params: SamplingParams) -> None:
        nonlocal num_checked
        num_checked += bool(params.allowed_token_ids)
        check(params)

    params = SamplingParams(allowed_token_ids=tuple(range(10_000)), stop_token_ids=tuple(range(10_000)))
    messages = [encoder.encode(Add.of(request(str(index), params))) for index in range(20)]
    monkeypatch.setattr(SamplingParams, "_validate", counted)
    received = [to_engine_decoder.decode(message) for message in messages]
    shared = {id(message.whole().params) for message in received if isinstance(message, Add)}
    assert len(shared) == 1 and num_checked == 1


def test_other_messages_cross_too() -> None:
    assert crossed(Abort(AbortRequest("a", [1]))) == Abort(AbortRequest("a", [1]))
