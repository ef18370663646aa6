"""Log entries, as people and as programs read them."""

import contextvars
import json
import logging
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from octavo.core.logs import JsonFormatter, TextFormatter, current_request_id, fields, of_request

logger = logging.getLogger("octavo.test")


def formatted(formatter: logging.Formatter, record: logging.LogRecord, request_id: str | None) -> str:
    def in_request() -> str:
        current_request_id.set(request_id)
        return formatter.format(record)

    return contextvars.copy_context().run(in_request)


def test_an_entry_is_one_line_with_its_request_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("two\nlines, %d", 7, extra=fields(phase="load", seconds=1.5))
    line = formatted(JsonFormatter(), caplog.records[0], "req-1")
    assert "\n" not in line
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("ts")).utcoffset() == timedelta(0)
    assert entry == {
        "level": "warning",
        "logger": "octavo.test",
        "message": "two\nlines, 7",
        "request_id": "req-1",
        "phase": "load",
        "seconds": 1.5,
    }


def test_an_exception_is_in_its_entry(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    entry = json.loads(formatted(JsonFormatter(), caplog.records[0], None))
    assert entry["exception"].startswith("Traceback") and "ValueError: why" in entry["exception"]
    assert "request_id" not in entry


def test_text_ends_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("hello")
    assert formatted(TextFormatter(), caplog.records[0], "req-1").endswith("WARNING octavo.test: hello [req-1]")
    assert formatted(TextFormatter(), caplog.records[0], None).endswith("hello")


def test_an_entry_about_a_request_has_its_id_wherever_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("preempted", extra=of_request("req-2"))
    for current in (None, "req-1"):
        assert formatted(TextFormatter(), caplog.records[0], current).endswith("preempted [req-2]")
        assert json.loads(formatted(JsonFormatter(), caplog.records[0], current))["request_id"] == "req-2"


def test_every_logger_and_python_itself_write_json() -> None:
    code = (
        "import logging, warnings; from octavo.core.logs import set_up_logging; set_up_logging('info', 'json');"
        "logging.getLogger('uvicorn.error').error('a'); warnings.warn('b'); logging.getLogger('x').debug('c')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert [entry["logger"] for entry in entries] == ["uvicorn.error", "py.warnings"]
