"""Requests to /v1/messages, and their answers."""

from typing import Any

from server.conftest import MODEL, InProcess
from server.paths import MESSAGES
from server.responses.requests import named_events

PATH = MESSAGES
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
TIME = {"type": "custom", "name": "get_time", "input_schema": {"type": "object"}}
PLACE = {"place": 'Köln 🌧️ } "日本"', "days": [1, {"x": None}]}


def body(content: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}


def create(server: InProcess, content: Any = "Hi", **fields: Any) -> dict[str, Any]:
    reply = server.post(PATH, body(content, **fields))
    assert reply.status_code == 200, reply.text
    return reply.json()


def stream(server: InProcess, content: Any = "Hi", **fields: Any) -> list[dict[str, Any]]:
    reply = server.post(PATH, body(content, stream=True, **fields))
    assert reply.status_code == 200, reply.text
    return named_events(reply.content)
