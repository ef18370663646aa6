"""/v1/responses: a conversation answered and kept; fetched and deleted by its id."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import InvalidRequestError
from octavo.server.answer import JsonResponse, json_response, new_id
from octavo.server.context import ServerContext
from octavo.server.conversation import ask_conversation
from octavo.server.endpoint import answer
from octavo.server.field_names import rename_call
from octavo.server.responses.replies import ResponseDeleted
from octavo.server.responses.request import FIELD_NAMES, to_conversation
from octavo.server.responses.schema import ResponsesRequest
from octavo.server.responses.writer import ResponseWriter
from octavo.server.visit import Visit, visit_of


async def respond(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    return await answer(context, http, ResponsesRequest, _prepare, FIELD_NAMES)


def fetch_response(context: ServerContext, http: Request, response_id: str) -> Response:
    """As it was answered. Raises `ApiError` (404) or `InvalidRequestError`."""
    if http.query_params:
        name = next(iter(http.query_params))[:200]
        raise InvalidRequestError(f"the query has {name!r}, which is not built; leave it out", param=name)
    return JsonResponse(context.responses.get(visit_of(http).client, response_id).reply)


def delete_response(context: ServerContext, http: Request, response_id: str) -> Response:
    """Raises `ApiError` (404)."""
    context.responses.delete(visit_of(http).client, response_id)
    return json_response(ResponseDeleted(id=response_id))


async def _prepare(context: ServerContext, request: ResponsesRequest, visit: Visit) -> ResponseWriter:
    given = await asyncio.to_thread(to_conversation, request, _earlier(context, request, visit))
    try:
        asked = await ask_conversation(context, given.conversation, visit, new_id("resp", "_"))
    except InvalidRequestError as error:
        rename_call(error, given.calls)
        raise
    return ResponseWriter(context, request, asked, given.messages)


def _earlier(context: ServerContext, request: ResponsesRequest, visit: Visit) -> bytes | None:
    """The conversation that the request goes on from."""
    previous = request.previous_response_id
    return None if previous is None else context.responses.get(visit.client, previous, "previous_response_id").messages
