"""What endpoints that generate have alike: a request read, waited for within its time, answered whole or as a stream."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import OctavoError
from octavo.server.answer import JsonResponse
from octavo.server.body import read_request
from octavo.server.context import ServerContext
from octavo.server.disconnect import until_disconnect
from octavo.server.field_names import FieldNames, rename_field
from octavo.server.messages.schema import MessagesRequest
from octavo.server.models import check_model
from octavo.server.responses.schema import ResponsesRequest
from octavo.server.schemas import GenerationRequest
from octavo.server.sse import StreamForm, event_stream
from octavo.server.visit import Visit, visit_of

Result = TypeVar("Result")
Asked = TypeVar("Asked", bound=GenerationRequest | ResponsesRequest | MessagesRequest)


class Writer(Protocol):
    """Writes the answer to one request, in one of two ways, once."""

    @property
    def form(self) -> StreamForm:
        """How its stream is written."""

    async def whole(self) -> bytes:
        """The reply, in JSON."""

    def events(self) -> AsyncGenerator[Sequence[Any], None]:
        """What a stream has, in batches."""


Prepare = Callable[[ServerContext, Asked, Visit], Awaitable[Writer]]
"""Checks a request, takes its places, and has what is to be asked of the engine."""


async def answer(
    context: ServerContext, http: Request, schema: type[Asked], prepare: Prepare[Asked], names: FieldNames = ()
) -> Response:
    """`names` are the endpoint's own for fields. Raises `OctavoError`, or `ClientDisconnectedError`."""
    visit = visit_of(http)
    visit.knock(context.engine)
    request = await read_request(http, context, schema)
    check_model(context, request.model)
    visit.limit_time(context.config, request.timeout)
    names = (*names, *_own_names(request))
    try:
        return await until_disconnect(http.receive, _answer(context, request, visit, prepare, names))
    except OctavoError as error:
        rename_field(error, names)
        raise


async def in_turn(context: ServerContext, http: Request, work: Callable[[str], Awaitable[Result]]) -> Result:
    """The result of `work` for a client, which generates nothing: it has a place in the queue, and a deadline.

    Raises `QueueFullError` and what `work` raises, or `ClientDisconnectedError`.
    """
    visit = visit_of(http)
    visit.limit_time(context.config, None)
    visit.enter(context.engine, 1)
    try:
        return await until_disconnect(http.receive, visit.in_time(work(visit.client)))
    finally:
        visit.leave()  # who reads the answer slowly keeps nobody out


def _own_names(request: Asked) -> FieldNames:
    """The length has two names; errors say the one that was sent."""
    if isinstance(request, GenerationRequest) and request.max_tokens is None:
        return () if request.max_completion_tokens is None else (("max_tokens", "max_completion_tokens"),)
    return ()


async def _answer(
    context: ServerContext, request: Asked, visit: Visit, prepare: Prepare[Asked], names: FieldNames
) -> Response:
    writer = await visit.in_time(prepare(context, request, visit))
    if request.stream:
        return await event_stream(writer.events(), writer.form, names)
    return JsonResponse(await writer.whole())
