"""What needs pooling is refused by the model's name."""

import pytest
from server.conftest import MODEL, InProcess
from server.envelopes import check_envelope

from octavo.server.fields import POOLING_ROUTES


@pytest.mark.parametrize("path", POOLING_ROUTES)
def test_a_model_without_pooling_says_so(server: InProcess, path: str) -> None:
    reply = server.post(path, {"model": MODEL, "input": "Hi"})
    message = check_envelope(reply, 400, "model", "model_has_no_pooling")["message"]
    assert MODEL in message and path in message and "/v1/chat/completions" in message
    check_envelope(server.get(path), 405)
