"""Bodies that are arriving are bounded together."""

import json
from typing import Any

import pytest
from server.conftest import InProcess, chat_body
from server.envelopes import check_envelope

from octavo.server import arriving
from octavo.server.arriving import FREE_BYTES, ArrivingBodies
from octavo.server.errors import ApiError


def test_what_is_beyond_the_free_bytes_counts_until_a_body_is_whole_or_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(arriving, "MAX_BYTES", 100)
    bodies = ArrivingBodies()
    with bodies.begin() as first:
        first.add(b"x" * (FREE_BYTES + 60))
        with bodies.begin() as small:
            small.add(b"x" * FREE_BYTES)  # keeps nobody out, and is kept out by nobody
            with pytest.raises(ApiError) as refused, bodies.begin() as second:
                second.add(b"x" * (FREE_BYTES + 41))
            assert refused.value.status == 503 and refused.value.code == "too_many_bodies"
            with bodies.begin() as third:
                third.add(b"x" * (FREE_BYTES + 39))
                third.add(b"x")
    with bodies.begin() as last:
        last.add(b"x" * (FREE_BYTES + 100))
        assert bytes(last.data) == b"x" * (FREE_BYTES + 100)


def test_the_server_refuses_what_is_too_much_together(server: InProcess, monkeypatch: Any) -> None:
    monkeypatch.setattr(arriving, "MAX_BYTES", 1000)
    body = chat_body("Hi")
    assert server.post("/v1/chat/completions", body).status_code == 200
    padded = json.dumps(body) + " " * (FREE_BYTES + 1000)
    for _ in range(2):
        reply = server.request(
            "POST", "/v1/chat/completions", content=padded, headers={"content-type": "application/json"}
        )
        check_envelope(reply, 503, None, "too_many_bodies")
        assert reply.headers["retry-after"]
    assert server.post("/v1/chat/completions", body).status_code == 200
