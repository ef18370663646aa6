"""A request of /v1/messages as the conversation that it asks to be answered."""

from typing import Any, Literal

from octavo.core.errors import NotBuiltError
from octavo.server.body import convert_part
from octavo.server.context import ServerContext
from octavo.server.field_names import FieldNames
from octavo.server.messages.content import to_messages
from octavo.server.messages.schema import (
    AnyChoice,
    CountTokensRequest,
    NoChoice,
    ThinkingOff,
    ThinkingOn,
    ToolChoice,
    WrittenTool,
)
from octavo.server.schemas import (
    ChatCompletionRequest,
    ChosenFunction,
    Function,
    JsonSchema,
    JsonSchemaFormat,
    NamedToolChoice,
    Tool,
)

FIELD_NAMES: FieldNames = (
    ("prompt", "messages"),
    ("stop", "stop_sequences"),
    (r"response_format(\.json_schema)?", "output_config.format"),
    ("reasoning_effort", "output_config.effort"),
    (r"(tools\[\d+\])\.function\.parameters", r"\1.input_schema"),
    (r"(tools\[\d+\])\.function(?=\.)", r"\1"),
)


def to_conversation(context: ServerContext, request: CountTokensRequest, **sampling: Any) -> ChatCompletionRequest:
    """What is to be counted, or with `sampling` answered. Not for the event loop: there may be many blocks.

    Raises `InvalidRequestError` or `NotBuiltError`.
    """
    config = request.output_config
    tools = _tools(request)
    return ChatCompletionRequest(
        model=request.model,
        messages=to_messages(request),
        tools=tools,
        tool_choice=_tool_choice(request),
        parallel_tool_calls=_is_parallel(request) if tools else None,
        response_format=_response_format(request),
        reasoning_effort=None if config is None else config.effort,
        chat_template_kwargs=_template_kwargs(context, request),
        **sampling,
    )


def _tools(request: CountTokensRequest) -> list[Tool]:
    tools = []
    for index, given in enumerate(request.tools or ()):
        where = f"tools[{index}]"
        kind = given.get("type")
        if isinstance(kind, str) and kind != "custom":
            raise NotBuiltError(
                f'{where} is of type {kind[:64]!r}, which is not built; write {{"name": …, "input_schema": {{…}}}}',
                param=where,
            )
        tool = convert_part(given, WrittenTool, where)
        function = Function(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
        tools.append(Tool(type="function", function=function))
    return tools


def _tool_choice(request: CountTokensRequest) -> Literal["none", "auto", "required"] | NamedToolChoice | None:
    choice = request.tool_choice
    if isinstance(choice, ToolChoice):
        return NamedToolChoice(function=ChosenFunction(name=choice.name))
    if isinstance(choice, AnyChoice):
        return "required"
    return "none" if isinstance(choice, NoChoice) else None


def _is_parallel(request: CountTokensRequest) -> bool:
    choice = request.tool_choice
    return choice is None or isinstance(choice, NoChoice) or not choice.disable_parallel_tool_use


def _response_format(request: CountTokensRequest) -> JsonSchemaFormat | None:
    form = None if request.output_config is None else request.output_config.format
    if form is None:
        return None
    return JsonSchemaFormat(json_schema=JsonSchema(name="output", schema=form.schema, strict=True))


def _template_kwargs(context: ServerContext, request: CountTokensRequest) -> dict[str, Any]:
    """What `thinking` says to the chat template. Raises `NotBuiltError` where the template does not listen."""
    template = context.engine.front_end.chat_template
    known = frozenset() if template is None else template.variables
    if isinstance(request.thinking, ThinkingOn):
        if "thinking_budget" not in known:
            raise NotBuiltError(
                "this model's chat template does not read thinking.budget_tokens; send thinking of type adaptive, or "
                "leave it out",
                param="thinking",
            )
        switch = {"enable_thinking": True} if "enable_thinking" in known else {}
        return {**switch, "thinking_budget": request.thinking.budget_tokens}
    if isinstance(request.thinking, ThinkingOff) and context.answer_format.has_reasoning:
        if "enable_thinking" not in known:
            raise NotBuiltError(
                "this model thinks, and its chat template does not read that it should not; leave thinking out",
                param="thinking",
            )
        return {"enable_thinking": False}
    return {}
