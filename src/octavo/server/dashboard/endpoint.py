"""/dashboard/snapshot and /dashboard/events."""

from starlette.requests import Request
from starlette.responses import Response

from octavo.server.context import ServerContext
from octavo.server.sse import EventStream
from octavo.server.web.headers import INERT_HEADERS


def newest_snapshot(context: ServerContext) -> Response:
    headers = {**INERT_HEADERS, "cache-control": "no-store"}
    return Response(context.live.ring.newest.data, media_type="application/json", headers=headers)


async def watch(context: ServerContext, request: Request) -> Response:
    """Raises `ApiError` (503) where there are too many viewers."""
    events = context.live.viewers.events(request.headers.get("last-event-id", ""))
    return EventStream(await anext(events), events)
