"""The worker's copy of a request."""

from octavo.core.messages import NewRequest
from octavo.core.sampling_params import SamplingParams
from octavo.worker.input_batch import RequestRow


def test_samples_of_a_request_share_the_array_of_what_they_may_say():
    """It is made once a request: for a whole vocabulary that takes milliseconds, and half a megabyte."""
    params = SamplingParams(n=2, allowed_token_ids=(7, 5))
    first, second = (
        RequestRow(NewRequest(f"r/{index}", [1], 1, params, seed=index, stop_token_ids=[]), 1, None)
        for index in range(2)
    )
    assert first.allowed_token_ids.tolist() == [7, 5]
    assert first.allowed_token_ids is second.allowed_token_ids
    assert RequestRow(NewRequest("s/0", [1], 1, SamplingParams(), 0, []), 1, None).allowed_token_ids is None
