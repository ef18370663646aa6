"""A request of /v1/responses as the conversation that it asks to be answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octavo.core.errors import NotBuiltError
from octavo.server.body import convert_part
from octavo.server.field_names import FieldNames
from octavo.server.responses.items import Message, MessageList, unpack
from octavo.server.responses.schema import (
    ChosenFlatFunction,
    FlatJsonSchemaFormat,
    ResponsesRequest,
    WrittenFunction,
)
from octavo.server.schemas import (
    ChatCompletionRequest,
    ChosenFunction,
    Function,
    JsonSchema,
    JsonSchemaFormat,
    NamedToolChoice,
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolChoice,
)

FIELD_NAMES: FieldNames = (
    (r"messages(\[\d+\]\S*)?", "input"),
    ("prompt", "input"),
    ("max_tokens", "max_output_tokens"),
    (r"response_format(\.json_schema)?", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    (r"(tools\[\d+\])\.function(?=\.)", r"\1"),
)


@dataclass(frozen=True, slots=True)
class AskedResponse:
    """A request as its conversation."""

    conversation: ChatCompletionRequest
    messages: Sequence[Message]
    """Those of it that an answer may go on from: all but the instructions."""
    calls: Mapping[str, str]
    """Which item of the input each function is that a message calls."""


def to_conversation(request: ResponsesRequest, earlier: bytes | None) -> AskedResponse:
    """`earlier` are the messages of the previous response, packed. Not for the event loop: there may be many.

    Raises `InvalidRequestError` or `NotBuiltError`.
    """
    system = [] if request.instructions is None else [{"role": "system", "content": request.instructions}]
    given = MessageList([*system, *(unpack(earlier) if earlier else ())])
    given.add_input(request.input)
    asked = ChatCompletionRequest(
        model=request.model,
        messages=given.messages,
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        tools=_tools(request),
        tool_choice=_tool_choice(request),
        parallel_tool_calls=request.parallel_tool_calls if request.tools else None,
        response_format=_response_format(request),
        reasoning_effort=_reasoning_effort(request),
        stream=request.stream,
        priority=request.priority,
        cache_salt=request.cache_salt,
    )
    return AskedResponse(asked, given.messages[len(system) :], given.calls)


def _tools(request: ResponsesRequest) -> list[Tool]:
    tools = []
    for index, given in enumerate(request.tools or ()):
        where = f"tools[{index}]"
        kind = given.get("type")
        if isinstance(kind, str) and kind != "function":
            raise NotBuiltError(f"{where} is of type {kind[:64]!r}, which is not built; send functions", param=where)
        flat = convert_part(given, WrittenFunction, where)
        function = Function(
            name=flat.name, description=flat.description, parameters=flat.parameters, strict=flat.strict
        )
        tools.append(Tool(type="function", function=function))
    return tools


def _tool_choice(request: ResponsesRequest) -> ToolChoice | None:
    choice = request.tool_choice
    if isinstance(choice, ChosenFlatFunction):
        return NamedToolChoice(function=ChosenFunction(name=choice.name))
    if choice == "auto" and not request.tools:
        return None  # what the field says when it is left out
    return choice


def _response_format(request: ResponsesRequest) -> ResponseFormat | None:
    form = None if request.text is None else request.text.format
    if isinstance(form, FlatJsonSchemaFormat):
        described = JsonSchema(name=form.name, schema=form.schema, description=form.description, strict=form.strict)
        return JsonSchemaFormat(json_schema=described)
    return form


def _reasoning_effort(request: ResponsesRequest) -> ReasoningEffort | None:
    if request.reasoning is None:
        return None
    if request.reasoning.summary is not None:
        raise NotBuiltError(
            "reasoning.summary is not built; leave it out, the reasoning is shown as it is", param="reasoning.summary"
        )
    return request.reasoning.effort
