"""What of /v1/messages asks for nothing, and what counting does not know."""

from typing import Any

import pytest
from server.bad_values.messages import FUNCTION
from server.conftest import InProcess
from server.envelopes import check_error
from server.fake_engine import FakeEngine
from server.messages.requests import PATH, body
from server.paths import COUNT


def test_counting_knows_no_length_of_an_answer() -> None:
    check_error(InProcess(FakeEngine()).post(COUNT, body()), 400, "invalid_request_error", "max_tokens")


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"user_id": "me"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"}},
        {"tools": [], "stop_sequences": [], "thinking": {"type": "adaptive"}, "output_config": {}, "system": []},
        {
            "tools": [{**FUNCTION, "eager_input_streaming": True}],
            "thinking": {"type": "adaptive", "display": "summarized"},
        },
        {"tool_choice": {"type": "auto"}, "speed": "standard", "temperature": None, "stream": False},
    ],
)
def test_what_asks_for_nothing_is_accepted(fields: dict[str, Any]) -> None:
    reply = InProcess(FakeEngine()).post(PATH, body(**fields))
    assert reply.status_code == 200, reply.text
