"""Logging of a process: lines for people, or one JSON object a line for programs."""

import json
import logging
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

LOG_FORMATS = ("text", "json")

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""The request that the running task works for: every entry it logs has this id."""


def set_up_logging(level: str, log_format: str) -> None:
    """Send what every logger of this process has to say from `level` on, and Python's warnings, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def fields(**values: Any) -> dict[str, Any]:
    """The `extra` of a log call whose entry is to have `values` as fields of its own in JSON."""
    return {"fields": values}


def of_request(request_id: str) -> dict[str, Any]:
    """The `extra` of a log call about a request, where no task runs that works for it: in the engine, say."""
    return {"request_id": request_id}


def _request_id(record: logging.LogRecord) -> str | None:
    request_id: str | None = record.__dict__.get("request_id")
    return current_request_id.get() if request_id is None else request_id


class TextFormatter(logging.Formatter):
    """«time LEVEL logger: message [request id]»."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        line = super().formatMessage(record)
        request_id = _request_id(record)
        return line if request_id is None else f"{line} [{request_id}]"


class JsonFormatter(logging.Formatter):
    """One JSON object: ts (ISO 8601, UTC), level, logger, message; request_id and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = _request_id(record)
        if request_id is not None:
            entry["request_id"] = request_id
        entry |= record.__dict__.get("fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
