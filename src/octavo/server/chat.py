"""/v1/chat/completions: conversations answered."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.core.errors import InvalidRequestError, OctavoError
from octavo.core.sampling_params import MAX_LOGPROBS, SamplingParams
from octavo.core.structured_outputs import StructuredOutputs
from octavo.server.answer import json_response, new_id
from octavo.server.body import read_request
from octavo.server.chat_prompt import chat_prompt
from octavo.server.chat_writer import ChatWriter
from octavo.server.context import ServerContext
from octavo.server.disconnect import until_disconnect
from octavo.server.generation import GenerationCall
from octavo.server.models import check_model
from octavo.server.sampling import check_streaming, priority_and_salt, requested_max_tokens, sampling_params
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.sse import event_stream
from octavo.server.tools.tool_use import ToolUse, read_tool_use
from octavo.server.visit import Visit, visit_of

_FIELD_NAMES: Mapping[str | None, str] = {"prompt": "messages", "logprobs": "top_logprobs"}
"""What the engine calls a field → what it is called here."""


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
        error.param = _FIELD_NAMES.get(error.param, error.param)
        if error.param == "structured_outputs" and request.structured_outputs is None and not request.response_format:
            error.param = "tools"  # whose schemas the grammar is made of
        raise


async def _answer(context: ServerContext, request: ChatCompletionRequest, visit: Visit) -> Response:
    writer = await visit.in_time(_prepare(context, request, visit))
    if request.stream:
        return await event_stream(writer.chunks())
    return json_response(await writer.whole())


async def _prepare(context: ServerContext, request: ChatCompletionRequest, visit: Visit) -> ChatWriter:
    use = read_tool_use(request.tools, request.tool_choice, request.parallel_tool_calls)
    params = _params(context, request, use)
    priority, salt = priority_and_salt(request)
    visit.enter(context.engine, params.n)
    prompt = await chat_prompt(
        context,
        request.messages,
        add_generation_prompt=request.add_generation_prompt is not False,
        template_kwargs=_template_kwargs(context, request),
        tool_use=use,
    )
    is_open = params.structured_outputs is None and context.answer_format.is_reasoning_open(prompt.text)
    params = _with_calls_held(context, params, use, is_reasoning_open=is_open)
    call = GenerationCall(
        id=new_id("chatcmpl"),
        prompts=[prompt.token_ids],
        params=params,
        priority=priority,
        cache_salt=salt,
        visit=visit,
    )
    parsers = [
        context.answer_format.parser(
            use, is_reasoning_open=is_open, shows_reasoning=request.include_reasoning is not False
        )
        for _ in range(params.n)
    ]
    return ChatWriter(context, request, call, parsers)


def _params(context: ServerContext, request: ChatCompletionRequest, use: ToolUse | None) -> SamplingParams:
    num_top = request.top_logprobs
    if num_top is not None and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs=true; set it, or leave both out", param="top_logprobs")
    if num_top is not None and not 0 <= num_top <= MAX_LOGPROBS:
        raise InvalidRequestError(
            f"top_logprobs={num_top} is not an integer from 0 to {MAX_LOGPROBS}", param="top_logprobs"
        )
    return sampling_params(
        context,
        request,
        max_tokens=requested_max_tokens(request),
        logprobs=(num_top or 0) if request.logprobs else None,
        shown_special_token_ids=context.answer_format.shown_special_token_ids(use),
    )


def _template_kwargs(context: ServerContext, request: ChatCompletionRequest) -> Mapping[str, Any]:
    """With `reasoning_effort`, where the chat template reads it. Raises `InvalidRequestError` where not."""
    given = request.chat_template_kwargs or {}
    effort = request.reasoning_effort
    if effort is None:
        return given
    template = context.engine.front_end.chat_template
    if template is None or "reasoning_effort" not in template.variables:
        raise InvalidRequestError(
            "this model's chat template does not read reasoning_effort; leave it out", param="reasoning_effort"
        )
    if given.get("reasoning_effort", effort) != effort:
        raise InvalidRequestError(
            "reasoning_effort and chat_template_kwargs.reasoning_effort differ; give one", param="reasoning_effort"
        )
    return {**given, "reasoning_effort": effort}


def _with_calls_held(
    context: ServerContext, params: SamplingParams, use: ToolUse | None, *, is_reasoning_open: bool
) -> SamplingParams:
    """Held to tool calls, where the request asks for one or has strict functions. Raises `InvalidRequestError`."""
    if use is None:
        return params
    if params.structured_outputs is not None:
        raise InvalidRequestError(
            "an answer that is held to a shape cannot call tools; leave response_format and structured_outputs out, "
            "or set tool_choice=none",
            param="tools",
        )
    grammar = context.answer_format.call_grammar(use, is_reasoning_open=is_reasoning_open)
    if grammar is None:
        return params
    return msgspec.structs.replace(params, structured_outputs=StructuredOutputs(grammar=grammar))
