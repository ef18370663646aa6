"""/v1/messages: a conversation answered; /v1/messages/count_tokens: its prompt's length."""

import asyncio
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import OctavoError
from octavo.server.answer import json_response, new_id
from octavo.server.body import read_request
from octavo.server.context import ServerContext
from octavo.server.conversation import ask_conversation, count_prompt_tokens
from octavo.server.endpoint import answer, in_turn
from octavo.server.field_names import rename_field
from octavo.server.messages.replies import TokenCount
from octavo.server.messages.request import FIELD_NAMES, to_conversation
from octavo.server.messages.schema import CountTokensRequest, MessagesRequest
from octavo.server.messages.writer import MessageWriter
from octavo.server.models import check_model
from octavo.server.visit import Visit


async def create_message(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    return await answer(context, http, MessagesRequest, _prepare, FIELD_NAMES)


async def count_tokens(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context, CountTokensRequest)
    check_model(context, request.model)
    conversation = await asyncio.to_thread(to_conversation, context, request)
    try:
        count = await in_turn(context, http, partial(count_prompt_tokens, context, conversation))
    except OctavoError as error:
        rename_field(error, FIELD_NAMES)
        raise
    return json_response(TokenCount(input_tokens=count))


async def _prepare(context: ServerContext, request: MessagesRequest, visit: Visit) -> MessageWriter:
    conversation = await asyncio.to_thread(
        to_conversation,
        context,
        request,
        max_tokens=request.max_tokens,
        stop=request.stop_sequences,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        priority=request.priority,
        cache_salt=request.cache_salt,
    )
    asked = await ask_conversation(context, conversation, visit, new_id("msg", "_"))
    return MessageWriter(context, request, asked)
