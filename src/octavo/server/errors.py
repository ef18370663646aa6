"""Every error as the reply that clients expect: {"error": {"message", "type", "param", "code"}}."""

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from octavo.core.errors import (
    ConfigError,
    ContextLengthError,
    DeadlineExceededError,
    EngineDeadError,
    EngineStalledError,
    InvalidRequestError,
    NotBuiltError,
    OctavoError,
    QueueFullError,
    ShuttingDownError,
)

logger = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 2000
"""What a client sent may be quoted in a message; no more of it than this."""
RETRY_AFTER_S = 1
_DO_NOT_RETRY = {"x-should-retry": "false"}


class ApiError(OctavoError):
    """An error with its HTTP status and the reply's `type` and `code`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None,
        type: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.type = type
        self.code = code
        self.headers = dict(headers or {})

    @property
    def shown_message(self) -> str:
        """As replies have it: of a bounded length."""
        if len(self.message) <= MAX_MESSAGE_CHARS:
            return self.message
        return f"{self.message[:MAX_MESSAGE_CHARS]}… ({len(self.message)} characters)"

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.shown_message, "type": self.type, "param": self.param, "code": self.code}}


def as_api_error(error: Exception) -> ApiError:
    """The reply to any error; one that nobody foresaw is logged, and its reply holds the log entry's id."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotBuiltError):
        return ApiError(400, error.message, code="not_built", param=error.param)
    if isinstance(error, ContextLengthError):
        return ApiError(400, error.message, code="context_length_exceeded", param=error.param)
    if isinstance(error, (InvalidRequestError, ConfigError)):
        return ApiError(400, error.message, code="invalid_value", param=error.param)
    if isinstance(error, QueueFullError):
        return overloaded(error.message, code="queue_full", retry_after_s=error.retry_after_s)
    if isinstance(error, DeadlineExceededError):
        return ApiError(
            504, error.message, code="timeout", type="timeout_error", param=error.param, headers=_DO_NOT_RETRY
        )
    if isinstance(error, ShuttingDownError):
        return overloaded(error.message, code="shutting_down")
    if isinstance(error, EngineStalledError):
        return overloaded(error.message, code="engine_stalled")
    if isinstance(error, EngineDeadError):
        return ApiError(503, error.message, code="engine_dead", type="server_error", headers=_DO_NOT_RETRY)
    error_id = f"err-{secrets.token_hex(8)}"
    logger.error("%s: unexpected %s", error_id, type(error).__name__, exc_info=error)
    return internal(f"the server failed on this request; its log has the reason under {error_id}")


def overloaded(message: str, *, code: str, retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    """503: the same request will be answered later."""
    return ApiError(503, message, code=code, type="server_error", headers={"Retry-After": str(retry_after_s)})


def internal(message: str) -> ApiError:
    """500: the same request would fail again."""
    return ApiError(500, message, code="internal_error", type="server_error", headers=_DO_NOT_RETRY)


def not_built(status: int, message: str, *, param: str | None = None) -> ApiError:
    headers = _DO_NOT_RETRY if status >= 500 else None
    return ApiError(status, message, code="not_built", param=param, headers=headers)
