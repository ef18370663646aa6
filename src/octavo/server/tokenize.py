"""/tokenize, /detokenize and /tokenizer_info."""

import asyncio
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import InvalidRequestError
from octavo.server.answer import json_response
from octavo.server.body import read_request
from octavo.server.chat_prompt import chat_prompt, of_messages
from octavo.server.context import ServerContext
from octavo.server.endpoint import in_turn
from octavo.server.field_names import rename_field
from octavo.server.models import check_model
from octavo.server.replies import DetokenizeReply, TokenizeReply, TokenizerInfo
from octavo.server.schemas import DetokenizeRequest, TokenizeRequest
from octavo.server.wire import written_list


async def tokenize(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context, TokenizeRequest)
    check_model(context, request.model)
    return await in_turn(context, http, partial(_tokenized, context, request))


async def _tokenized(context: ServerContext, request: TokenizeRequest, client: str) -> Response:
    token_ids = await _token_ids(context, request, client)
    return await asyncio.to_thread(_reply, context, token_ids, bool(request.return_token_strs))


def _reply(context: ServerContext, token_ids: list[int], has_texts: bool) -> Response:
    """Not for the event loop: there may be a million tokens."""
    texts = (context.tokenizer.id_to_token(token) or "" for token in token_ids)
    reply = TokenizeReply(
        count=len(token_ids),
        max_model_len=context.engine.info.max_model_len,
        tokens=written_list(token_ids),
        token_strs=written_list(texts) if has_texts else None,
    )
    return json_response(reply)


async def detokenize(context: ServerContext, http: Request) -> Response:
    """Raises `OctavoError`, or `ClientDisconnectedError`."""
    request = await read_request(http, context, DetokenizeRequest)
    check_model(context, request.model)
    return await in_turn(context, http, partial(_detokenized, context, request.tokens))


async def _detokenized(context: ServerContext, token_ids: list[int], client: str) -> Response:
    if not token_ids:
        return json_response(DetokenizeReply(prompt=""))
    try:
        checked = await context.engine.texts.tokenize(token_ids, client=client)
    except InvalidRequestError as error:
        rename_field(error, (("prompt", "tokens"),))
        raise
    return await asyncio.to_thread(_text_reply, context, checked)


def _text_reply(context: ServerContext, token_ids: list[int]) -> Response:
    """Not for the event loop. A text that no request could carry is not written. Raises `InvalidRequestError`."""
    num_bytes = sum(len(context.tokenizer.token_bytes(token)) for token in token_ids)
    if num_bytes > context.config.body_limit_bytes:
        raise InvalidRequestError(
            f"tokens stand for {num_bytes} bytes of text; at most {context.config.body_limit_bytes} are written at a "
            "time, as many as a body may have; send fewer",
            param="tokens",
        )
    return json_response(DetokenizeReply(prompt=context.tokenizer.decode(token_ids, skip_special_tokens=False)))


def tokenizer_info(context: ServerContext) -> TokenizerInfo:
    """What a client needs that tokenises here rather than by itself."""
    tokenizer, template = context.tokenizer, context.engine.front_end.chat_template
    return TokenizerInfo(
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        chat_template=template.source if template else None,
    )


async def _token_ids(context: ServerContext, request: TokenizeRequest, client: str) -> list[int]:
    if (request.prompt is None) == (request.messages is None):
        raise InvalidRequestError("give either prompt or messages", param="prompt")
    if request.messages is not None:
        text = await chat_prompt(
            context,
            request.messages,
            add_generation_prompt=request.add_generation_prompt is not False,
            template_kwargs=request.chat_template_kwargs or {},
            client=client,
        )
        has_special = bool(request.add_special_tokens)
        return await of_messages(context.engine.texts.list_tokens(text, add_special_tokens=has_special, client=client))
    for name in ("add_generation_prompt", "chat_template_kwargs"):
        if getattr(request, name) is not None:
            raise InvalidRequestError(f"{name} goes with messages, not with prompt; leave it out", param=name)
    assert request.prompt is not None
    return await context.engine.texts.list_tokens(
        request.prompt, add_special_tokens=request.add_special_tokens is not False, client=client
    )
