"""Requests to /v1/responses, and their answers."""

import json
from typing import Any

from server.conftest import MODEL, InProcess
from server.paths import RESPONSES

PATH = RESPONSES
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": False,
}
TIME = {"type": "function", "name": "get_time"}


def body(given: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": given, **fields}


def respond(server: InProcess, given: Any = "Hi", **fields: Any) -> dict[str, Any]:
    reply = server.post(PATH, body(given, **fields))
    assert reply.status_code == 200, reply.text
    return reply.json()


def named_events(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream; checks the framing to the byte, and that each is called what its data says."""
    assert data.endswith(b"\n\n")
    events = []
    for text in data.decode("ascii").split("\n\n")[:-1]:
        name, written = text.split("\n")
        event = json.loads(written.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def stream(server: InProcess, given: Any = "Hi", **fields: Any) -> list[dict[str, Any]]:
    reply = server.post(PATH, body(given, stream=True, **fields))
    assert reply.status_code == 200, reply.text
    events = named_events(reply.content)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    items = [{key: value for key, value in item.items() if key not in ("id", "call_id")} for item in response["output"]]
    return {**response, "id": None, "created_at": None, "output": items}
