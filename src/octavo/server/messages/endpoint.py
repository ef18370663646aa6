"""/v1/messages: a conversation answered; /v1/messages/count_tokens: its prompt's length."""

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import OctavoError
from octavo.server.answer import json_response, new_id
from octavo.server.body import read_request
from octavo.server.context import ServerContext
from octavo.server.conversation import ask_conversation, count_prompt_tokens
from octavo.server.disconnect import until_disconnect
from octavo.server.errors import ApiError
from octavo.server.field_names import rename_field
from octavo.server.messages.errors import error_reply
from octavo.server.messages.replies import TokenCount
from octavo.server.messages.request import FIELD_NAMES, to_conversation
from octavo.server.messages.schema import CountTokensRequest, MessagesRequest
from octavo.server.messages.writer import MessageWriter
from octavo.server.models import check_model
from octavo.server.request_record import current_record
from octavo.server.sse import StreamForm, event_stream
from octavo.server.visit import Visit, visit_of
from octavo.server.wire import to_named_event


async def create_message(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context.config, MessagesRequest)
    check_model(context, request.model)
    visit = visit_of(http)
    visit.limit_time(context.config, request.timeout)
    try:
        return await until_disconnect(http.receive, _answer(context, request, visit))
    except OctavoError as error:
        rename_field(error, FIELD_NAMES)
        raise


async def count_tokens(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context.config, CountTokensRequest)
    check_model(context, request.model)
    conversation = to_conversation(context, request)
    try:
        count = await until_disconnect(http.receive, count_prompt_tokens(context, conversation))
    except OctavoError as error:
        rename_field(error, FIELD_NAMES)
        raise
    return json_response(TokenCount(input_tokens=count))


async def _answer(context: ServerContext, request: MessagesRequest, visit: Visit) -> Response:
    writer = await visit.in_time(_prepare(context, request, visit))
    if request.stream:
        return await event_stream(writer.events(), StreamForm(to_named_event, _write_error))
    return json_response(await writer.whole())


async def _prepare(context: ServerContext, request: MessagesRequest, visit: Visit) -> MessageWriter:
    asked = await ask_conversation(context, to_conversation(context, request), visit, new_id("msg", "_"))
    return MessageWriter(context, request, asked)


def _write_error(error: ApiError) -> bytes:
    return to_named_event(error_reply(error, current_record.get().id))
