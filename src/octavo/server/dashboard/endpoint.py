"""/dashboard/snapshot and /dashboard/events."""

from starlette.requests import Request
from starlette.responses import Response

from octavo.server.context import ServerContext
from octavo.server.errors import ApiError
from octavo.server.sse import EventStream
from octavo.server.web.headers import INERT_HEADERS

_HEADERS = {**INERT_HEADERS, "cache-control": "no-store"}
_OWN_SITES = ("same-origin", "none")
"""What browsers say of a request by this server's own pages, and by the person who uses them; programs say nothing."""


def newest_snapshot(context: ServerContext) -> Response:
    return Response(context.live.ring.newest.data, media_type="application/json", headers=_HEADERS)


async def watch(context: ServerContext, request: Request) -> Response:
    """Raises `ApiError`: 403 for pages of other sites, which would take the viewers' places; 503 as `Viewers` does."""
    site = request.headers.get("sec-fetch-site", "none")
    if site not in _OWN_SITES:
        raise ApiError(
            403,
            f"a page of another site asks for this stream (Sec-Fetch-Site: {site[:100]}); open /dashboard itself",
            code="cross_site",
        )
    events = context.live.viewers.events(request.headers.get("last-event-id", ""))
    stream = EventStream(await anext(events), events)
    stream.headers.update(_HEADERS)
    return stream
