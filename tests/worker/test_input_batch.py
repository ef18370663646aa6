"""The worker's copy of a request."""

from octavo.core.messages import NewRequest
from octavo.core.sampling_params import SamplingParams
from octavo.worker.input_batch import RequestRow, SharedArrays


def row(params: SamplingParams, arrays: SharedArrays) -> RequestRow:
    return RequestRow(NewRequest("r", [1], 1, params, seed=0, stop_token_ids=[]), 1, None, arrays)


def test_samples_of_a_request_share_the_array_of_what_they_may_say():
    """It is made once a request: for a whole vocabulary that takes milliseconds, and half a megabyte."""
    arrays, params = SharedArrays(), SamplingParams(n=2, allowed_token_ids=(7, 5))
    first, second = (row(params, arrays) for _ in range(2))
    assert first.allowed_token_ids.tolist() == [7, 5]
    assert first.allowed_token_ids is second.allowed_token_ids
    assert row(SamplingParams(), arrays).allowed_token_ids is None


def test_nothing_of_it_is_left_when_the_last_row_has_gone():
    arrays = SharedArrays()
    for length in range(1, 100):
        row(SamplingParams(allowed_token_ids=tuple(range(length))), arrays)
        assert row(SamplingParams(allowed_token_ids=(length,)), arrays).allowed_token_ids.tolist() == [length]
    assert not arrays._arrays
