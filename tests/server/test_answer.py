"""Replies on their way out."""

import asyncio
from typing import Any

import pytest
from server.conftest import serving, soon
from server.fake_engine import FakeEngine
from server.raw_requests import ask

from octavo.server.answer import SEND_BYTES, JsonResponse


@pytest.mark.parametrize("length", [2, SEND_BYTES, SEND_BYTES + 1, 3 * SEND_BYTES])
def test_a_large_reply_is_handed_over_in_pieces(length: int) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    body = b"1" * length
    asyncio.run(JsonResponse(body)({"type": "http"}, receive, send))
    start, *pieces = sent
    assert dict(start["headers"])[b"content-length"] == str(length).encode()
    assert dict(start["headers"])[b"content-type"] == b"application/json"
    assert b"".join(piece["body"] for piece in pieces) == body
    assert max(len(piece["body"]) for piece in pieces) <= SEND_BYTES
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


def test_who_reads_an_answer_slowly_holds_no_place_in_the_queue() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        with await ask(url):
            await soon(lambda: engine.texts.clients and not engine.admission.num_taken)
            assert context.gate.num_inside == 1

    serving(test)
