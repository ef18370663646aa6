"""/v1/chat/completions: conversations answered."""

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import OctavoError
from octavo.server.answer import json_response, new_id
from octavo.server.body import read_request
from octavo.server.chat_writer import ChatWriter
from octavo.server.context import ServerContext
from octavo.server.conversation import ask_conversation
from octavo.server.disconnect import until_disconnect
from octavo.server.field_names import FieldNames, rename_field
from octavo.server.models import check_model
from octavo.server.sampling import check_streaming
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.sse import event_stream
from octavo.server.visit import Visit, visit_of

_FIELD_NAMES: FieldNames = (("prompt", "messages"), ("logprobs", "top_logprobs"))


async def chat(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context.config, ChatCompletionRequest)
    check_model(context, request.model)
    check_streaming(request)
    visit = visit_of(http)
    visit.limit_time(context.config, request.timeout)
    try:
        return await until_disconnect(http.receive, _answer(context, request, visit))
    except OctavoError as error:
        rename_field(error, _FIELD_NAMES)
        raise


async def _answer(context: ServerContext, request: ChatCompletionRequest, visit: Visit) -> Response:
    asked = await visit.in_time(ask_conversation(context, request, visit, new_id("chatcmpl")))
    writer = ChatWriter(context, request, asked)
    if request.stream:
        return await event_stream(writer.chunks())
    return json_response(await writer.whole())
