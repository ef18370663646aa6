"""The form of every error: that of OpenAI's clients, and that of Anthropic's under /v1/messages."""

from typing import Any

import httpx
from server.paths import MESSAGES


def check_envelope(reply: Any, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    if param is not None:
        assert error["param"] == param, error
    if code is not None:
        assert error["code"] == code, error
    return error


def check_error(reply: Any, status: int, kind: str | None = None, words: str = "") -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    found = reply.json()
    assert found.keys() == {"type", "error", "request_id"} and found["type"] == "error"
    error = found["error"]
    assert error.keys() == {"type", "message"}
    assert isinstance(error["message"], str) and error["message"] and words in error["message"]
    assert error["type"] == kind if kind is not None else isinstance(error["type"], str)
    assert found["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]


def check_refusal(reply: httpx.Response, path: str, place: str | None = None) -> None:
    """4xx, in the form of the path's clients; where a field is to blame, 4xx names the place in it."""
    assert 400 <= reply.status_code < 500, f"{reply.status_code} {reply.text[:200]}"
    if path.startswith(MESSAGES):
        check_error(reply, reply.status_code, words=place or "")
    else:
        check_envelope(reply, reply.status_code, place)
