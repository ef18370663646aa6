"""/v1/chat/completions: conversations answered."""

from starlette.requests import Request
from starlette.responses import Response

from octavo.server.answer import new_id
from octavo.server.chat_writer import ChatWriter
from octavo.server.context import ServerContext
from octavo.server.conversation import ask_conversation
from octavo.server.endpoint import answer
from octavo.server.field_names import FieldNames
from octavo.server.sampling import check_streaming
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.visit import Visit

_FIELD_NAMES: FieldNames = (("prompt", "messages"), ("logprobs", "top_logprobs"))


async def chat(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    return await answer(context, http, ChatCompletionRequest, _prepare, _FIELD_NAMES)


async def _prepare(context: ServerContext, request: ChatCompletionRequest, visit: Visit) -> ChatWriter:
    check_streaming(request)
    return ChatWriter(context, request, await ask_conversation(context, request, visit, new_id("chatcmpl")))
