"""What walks over all of a large body does so off the event loop, and once."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from server.conftest import MODEL, InProcess
from server.fake_engine import FakeEngine
from server.fake_model import EOS

from octavo.server import chat_prompt, field_names
from octavo.server.messages import endpoint as messages_endpoint
from octavo.server.responses import endpoint as responses_endpoint

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("module", "name", "path", "body"),
    [
        (responses_endpoint, "to_conversation", "/v1/responses", {"input": MESSAGES}),
        (messages_endpoint, "to_conversation", "/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
        (messages_endpoint, "to_conversation", "/v1/messages/count_tokens", {"messages": MESSAGES}),
        (chat_prompt, "_known_messages", "/v1/chat/completions", {"messages": MESSAGES}),
    ],
    ids=["responses", "messages", "count_tokens", "chat"],
)
def test_conversations_are_read_off_the_event_loop(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, path: str, body: dict[str, Any]
) -> None:
    on_loop = []
    read: Callable[..., Any] = getattr(module, name)

    def watched(*args: Any, **options: Any) -> Any:
        on_loop.append(asyncio._get_running_loop() is not None)
        return read(*args, **options)

    monkeypatch.setattr(module, name, watched)
    assert server.post(path, {"model": MODEL, **body}).status_code == 200
    assert on_loop == [False]


def test_one_of_many_calls_is_named_without_looking_at_all(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = []

    class Watched:
        compile = staticmethod(lambda pattern: patterns.append(pattern) or re.compile(pattern))
        escape = staticmethod(re.escape)

    monkeypatch.setattr(field_names, "re", Watched)
    calls = [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"} for _ in range(500)]
    calls[400]["arguments"] = "["
    reply = server.post("/v1/responses", {"model": MODEL, "input": calls})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("input[400]")
    assert len(patterns) < 20


def test_a_text_that_no_request_could_carry_is_not_written(engine: FakeEngine) -> None:
    server = InProcess(engine, max_body_bytes=1200)
    assert server.post("/detokenize", {"model": MODEL, "tokens": [7] * 200}).status_code == 200
    reply = server.post("/detokenize", {"model": MODEL, "tokens": [EOS] * 250})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "tokens")
    assert "stand for 1250 bytes of text; at most 1200" in error["message"]
