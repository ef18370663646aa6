"""Errors in Anthropic's envelope: {"type": "error", "error": {"type", "message"}, "request_id"}."""

from typing import Any

import msgspec
from starlette.responses import Response

from octavo.server.errors import ApiError
from octavo.server.messages.replies import MessagesError, MessagesErrorReply
from octavo.server.wire import to_json

PATH = "/v1/messages"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_messages_path(path: str) -> bool:
    """Whether clients of `path` expect this envelope."""
    return path == PATH or path.startswith(f"{PATH}/")


def error_reply(error: ApiError, request_id: str) -> MessagesErrorReply:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return MessagesErrorReply(error=MessagesError(type=kind, message=error.shown_message), request_id=request_id)


def error_body(error: ApiError, path: str, request_id: str) -> dict[str, Any]:
    """What a request of `path` is told, in the envelope that its clients expect."""
    if not is_messages_path(path):
        return error.body()
    body: dict[str, Any] = msgspec.to_builtins(error_reply(error, request_id))
    return body


def error_response(error: ApiError, path: str, request_id: str) -> Response:
    """The reply that says it."""
    return Response(to_json(error_body(error, path, request_id)), error.status, error.headers, "application/json")
