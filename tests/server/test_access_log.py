"""One entry a request, with its id, and nothing that is nobody's business."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest
from server.conftest import InProcess, chat_body, serving, soon
from server.fake_engine import FakeEngine

from octavo.core.logs import JsonFormatter


class Entries(logging.Handler):
    """Entries as they are written: the id of the request is known only then."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.entries: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entries.append(json.loads(self.format(record)))


@pytest.fixture
def access_log() -> Any:
    handler = Entries()
    logger = logging.getLogger("octavo.server.access_log")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.entries
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_request_is_one_entry(access_log: list[dict[str, Any]]) -> None:
    server = InProcess(FakeEngine(), api_key=("sk-secret",))
    headers = {"authorization": "Bearer sk-secret", "x-request-id": "mine"}
    body = chat_body("a private prompt", max_tokens=3)
    assert server.post("/v1/chat/completions?token=private", body, headers=headers).status_code == 200
    [entry] = access_log
    assert entry.pop("ts").endswith("+00:00") and entry.pop("duration_s") > 0.0
    prompt_tokens = entry.pop("prompt_tokens")
    assert prompt_tokens > 10 and entry.pop("message").endswith(f"s, {prompt_tokens} + 3 tokens")
    assert entry == {
        "level": "info",
        "logger": "octavo.server.access_log",
        "request_id": "mine",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "is_disconnected": False,
        "key_number": 0,
        "generated_tokens": 3,
    }
    assert "private" not in str(access_log) and "sk-secret" not in str(access_log)


def test_probes_are_not_shown_and_refusals_have_their_code(server: InProcess, access_log: list[dict[str, Any]]) -> None:
    server.get("/health")
    server.get("/nowhere%0aINFO forged")
    server.post("/v1/chat/completions", {"model": "other", "messages": []})
    assert [entry["level"] for entry in access_log] == ["debug", "info", "info"]
    assert access_log[1]["path"] == "/nowhere%0AINFO%20forged"
    assert access_log[2]["error_code"] == "model_not_found" and access_log[2]["status"] == 404


def test_a_stream_that_fails_says_why(server: InProcess, access_log: list[dict[str, Any]]) -> None:
    server.engine.fails_after = 3
    server.post("/v1/chat/completions", chat_body(stream=True))
    assert (access_log[0]["status"], access_log[0]["error_code"]) == (200, "internal_error")
    assert ": 200 internal_error, " in access_log[0]["message"]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_goes_away_is_an_entry(is_streamed: bool, access_log: list[dict[str, Any]]) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held, engine.hold_after = True, 2
        async with httpx.AsyncClient() as client:
            body = chat_body(stream=is_streamed)
            headers = {"x-request-id": "gone"}
            request = asyncio.create_task(client.post(url + "/v1/chat/completions", json=body, headers=headers))
            await soon(lambda: engine.stats is not None and engine.stats.step >= 2)
            request.cancel()
        await soon(lambda: bool(access_log))
        assert access_log[0]["is_disconnected"] and access_log[0]["request_id"] == "gone"
        assert "the client went away" in access_log[0]["message"]
        assert engine.aborted[0].endswith("@gone")  # the engine's name for it

    serving(test)
