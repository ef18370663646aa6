"""One log entry a request: what was asked, how it ended, how long it took. Never a prompt, a key or a query."""

import logging

from octavo.core.logs import fields
from octavo.server.request_record import RequestRecord
from octavo.server.web.paths import FILE_PREFIX

logger = logging.getLogger(__name__)

PROBED_PATHS = frozenset(("/health", "/health/ready", "/metrics"))
"""Asked every few seconds by machines: logged at DEBUG."""


def log_access(record: RequestRecord) -> None:
    """INFO; DEBUG for probes, and for the files that a page loads: the page itself says who came."""
    is_quiet = record.path in PROBED_PATHS or record.path.startswith(FILE_PREFIX)
    level = logging.DEBUG if is_quiet else logging.INFO
    if not logger.isEnabledFor(level):
        return
    outcome = "the client went away" if record.is_disconnected else str(record.status)
    if record.error_code is not None:
        outcome += f" {record.error_code}"
    tokens = f", {record.num_prompt_tokens} + {record.num_generated_tokens} tokens" if record.params else ""
    entry = {
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "duration_s": round(record.duration_s, 4),
        "is_disconnected": record.is_disconnected,
    }
    if record.params is not None:
        entry |= {"prompt_tokens": record.num_prompt_tokens, "generated_tokens": record.num_generated_tokens}
    if record.key_number is not None:
        entry["key_number"] = record.key_number
    if record.error_code is not None:
        entry["error_code"] = record.error_code
    logger.log(
        level,
        "%s %s: %s, %.3f s%s",
        record.method,
        record.path,
        outcome,
        record.duration_s,
        tokens,
        extra=fields(**entry),
    )
