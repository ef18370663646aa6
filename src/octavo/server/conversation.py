"""A conversation that is to be answered, as what is asked of the engine. Every endpoint that answers one goes this way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.core.structured_outputs import MAX_GRAMMAR_CHARS, StructuredOutputs
from octavo.server.answer_parser import AnswerParser
from octavo.server.chat_prompt import chat_prompt, of_messages
from octavo.server.context import ServerContext
from octavo.server.generation import GenerationCall
from octavo.server.sampling import check_prompt_length, priority_and_salt, requested_max_tokens, sampling_params
from octavo.server.schemas import ChatCompletionRequest
from octavo.server.structured import shape_field
from octavo.server.tools.tool_use import ToolUse, read_tool_use
from octavo.server.visit import Visit


@dataclass(frozen=True, slots=True)
class AskedConversation:
    """What is asked of the engine, and a parser for each sample of its answer."""

    call: GenerationCall
    parsers: Sequence[AnswerParser]


async def ask_conversation(
    context: ServerContext, request: ChatCompletionRequest, visit: Visit, answer_id: str
) -> AskedConversation:
    """Check what is asked, take a place in the queue, then write and tokenise the prompt.

    Raises `InvalidRequestError`, `NotBuiltError` or `QueueFullError`.
    """
    use = read_tool_use(request.tools, request.tool_choice, request.parallel_tool_calls)
    params = _params(context, request, use)
    priority, salt = priority_and_salt(request)
    visit.enter(context.engine, params.n)
    text = await _prompt(context, request, use, visit.client)
    token_ids = await of_messages(context.engine.texts.tokenize(text, add_special_tokens=False, client=visit.client))
    check_prompt_length(context, len(token_ids), "messages")
    is_open = params.structured_outputs is None and context.answer_format.is_reasoning_open(text)
    params = _with_calls_held(context, params, use, is_reasoning_open=is_open)
    call = GenerationCall(
        id=answer_id,
        prompts=[token_ids],
        params=params,
        priority=priority,
        cache_salt=salt,
        visit=visit,
        shape_field=shape_field(request) if use is None else "tools",
    )
    parsers = [
        context.answer_format.parser(
            use, is_reasoning_open=is_open, shows_reasoning=request.include_reasoning is not False
        )
        for _ in range(params.n)
    ]
    return AskedConversation(call, parsers)


async def count_prompt_tokens(context: ServerContext, request: ChatCompletionRequest, client: str) -> int:
    """How many tokens its prompt has, fit it the context or not. Raises `InvalidRequestError`."""
    use = read_tool_use(request.tools, request.tool_choice, request.parallel_tool_calls)
    text = await _prompt(context, request, use, client)
    return await of_messages(context.engine.texts.count_tokens(text, add_special_tokens=False, client=client))


async def _prompt(context: ServerContext, request: ChatCompletionRequest, use: ToolUse | None, client: str) -> str:
    return await chat_prompt(
        context,
        request.messages,
        add_generation_prompt=request.add_generation_prompt is not False,
        template_kwargs=_template_kwargs(context, request),
        client=client,
        tool_use=use,
    )


def _params(context: ServerContext, request: ChatCompletionRequest, use: ToolUse | None) -> SamplingParams:
    num_top = request.top_logprobs
    if num_top is not None and not request.logprobs:
        raise InvalidRequestError("top_logprobs needs logprobs=true; set it, or leave both out", param="top_logprobs")
    params = sampling_params(
        context,
        request,
        max_tokens=requested_max_tokens(request),
        logprobs=(num_top or 0) if request.logprobs else None,
        shown_special_token_ids=context.answer_format.shown_special_token_ids(use),
    )
    if use is not None and params.structured_outputs is not None:
        raise InvalidRequestError(
            "an answer that is held to a shape cannot call tools; leave response_format and structured_outputs out, "
            "or set tool_choice=none",
            param="tools",
        )
    return params


def _template_kwargs(context: ServerContext, request: ChatCompletionRequest) -> Mapping[str, Any]:
    """With `reasoning_effort`, where the chat template reads it. Raises `InvalidRequestError` where not."""
    given = request.chat_template_kwargs or {}
    effort = request.reasoning_effort
    if effort is None:
        return given
    template = context.engine.front_end.chat_template
    if template is None or "reasoning_effort" not in template.variables:
        raise InvalidRequestError(
            "reasoning_effort is not read by this model's chat template; leave it out", param="reasoning_effort"
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
    grammar = context.answer_format.call_grammar(use, is_reasoning_open=is_reasoning_open)
    if grammar is None:
        return params
    if len(grammar) > MAX_GRAMMAR_CHARS:
        raise InvalidRequestError(
            f"the tools that calls are held to have {len(grammar)} characters as a grammar; at most {MAX_GRAMMAR_CHARS} "
            "are allowed; send fewer, shorten their schemas, or leave strict and a tool_choice that forces calls out",
            param="tools",
        )
    return msgspec.structs.replace(params, structured_outputs=StructuredOutputs(grammar=grammar))
