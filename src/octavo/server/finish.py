"""Why a sample ended, in the API's words."""

from octavo.core.request import FinishReason
from octavo.server.errors import internal
from octavo.server.replies import FinishReasonText


def finish_text(reason: FinishReason | None, *, has_called: bool = False) -> FinishReasonText | None:
    """None while the sample goes on. Raises `ApiError` for a sample that ended without having finished.

    A sample that ended by itself and `has_called` tools ended for them.
    """
    if reason is None:
        return None
    if reason is FinishReason.STOP:
        return "tool_calls" if has_called else "stop"
    if reason is FinishReason.LENGTH:
        return "length"
    raise internal(f"the request ended with {reason} before its answer was complete")
