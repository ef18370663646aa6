"""The OpenAPI document's schemas, made from the structs that requests and replies are."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from octavo.core.outputs import Logprob
from octavo.server import replies, schemas
from octavo.server.dashboard import schema as dashboard_schema
from octavo.server.messages import replies as messages_replies
from octavo.server.messages import schema as messages_schema
from octavo.server.responses import replies as responses_replies
from octavo.server.responses import schema as responses_schema

_REFERENCE = "#/components/schemas/{name}"
_DOCUMENTED: tuple[type[Any], ...] = (
    schemas.CompletionRequest,
    schemas.ChatCompletionRequest,
    responses_schema.ResponsesRequest,
    messages_schema.MessagesRequest,
    messages_schema.CountTokensRequest,
    schemas.TokenizeRequest,
    schemas.DetokenizeRequest,
    replies.Completion,
    replies.ChatCompletion,
    replies.ChatCompletionChunk,
    replies.TokenLogprob,
    Logprob,
    responses_replies.ModelResponse,
    responses_replies.ResponseEvent,
    responses_replies.ResponseDeleted,
    messages_replies.ModelMessage,
    messages_replies.MessagesEvent,
    messages_replies.MessageEndEvent,
    messages_replies.TokenCount,
    messages_replies.MessagesErrorReply,
    replies.ModelCard,
    replies.ModelList,
    replies.TokenizeReply,
    replies.DetokenizeReply,
    replies.TokenizerInfo,
    dashboard_schema.Snapshot,
    replies.Version,
    replies.Health,
    replies.ErrorReply,
)

_ITEMS: Mapping[tuple[type[msgspec.Struct], str], Any] = {
    (schemas.ChatCompletionRequest, "messages"): schemas.ChatInputMessage,
    (schemas.TokenizeRequest, "messages"): schemas.ChatInputMessage,
    (responses_schema.ResponsesRequest, "input"): responses_schema.InputItem,
    (responses_schema.ResponsesRequest, "tools"): responses_schema.FlatFunction,
    (messages_schema.CountTokensRequest, "tools"): messages_schema.ClientTool,
    (messages_schema.MessagesRequest, "tools"): messages_schema.ClientTool,
}
"""What the objects of these lists must be. They are read one by one, after the body, so that errors can say more."""


def request_body(schema: type[msgspec.Struct]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads `schema`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(schema)}}}}


def responses(
    reply: type[msgspec.Struct],
    *errors: int,
    chunks: Sequence[type[msgspec.Struct]] = (),
    error: type[msgspec.Struct] = replies.ErrorReply,
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: what it answers, streamed as any of `chunks` where it does, and its errors as `error`."""
    content: dict[str, Any] = {"application/json": {"schema": _reference(reply)}}
    if chunks:
        content["text/event-stream"] = {"schema": _event([{"const": "[DONE]"}, _json_text(chunks)])}
    return _documented(content, errors, error)


def endless_events(value: type[msgspec.Struct], *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that streams values until its reader goes away, and its errors."""
    return _documented({"text/event-stream": {"schema": _event([_json_text([value])])}}, errors, replies.ErrorReply)


def _documented(
    content: dict[str, Any], errors: Sequence[int], error: type[msgspec.Struct]
) -> dict[int | str, dict[str, Any]]:
    documented: dict[int | str, dict[str, Any]] = {200: {"description": "Success", "content": content}}
    for status in errors:
        documented[status] = {
            "description": "Error",
            "content": {"application/json": {"schema": _reference(error)}},
        }
    return documented


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)  # FastAPI's own; nothing here answers it
        document["components"] = {
            "schemas": _components(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        }
        app.openapi_schema = document
    return app.openapi_schema


def _components() -> dict[str, Any]:
    """The schemas by their names."""
    items, components = msgspec.json.schema_components((*_DOCUMENTED, *_ITEMS.values()), ref_template=_REFERENCE)
    for (schema, name), item in zip(_ITEMS, items[len(_DOCUMENTED) :], strict=True):
        field = components[schema.__name__]["properties"][name]
        [array] = [choice for choice in field.get("anyOf", [field]) if choice["type"] == "array"]
        array["items"] = item
    return components


def _event(data: list[dict[str, Any]]) -> dict[str, Any]:
    """An event of a stream, whose data is any of these."""
    return {"type": "object", "properties": {"data": {"anyOf": data}}, "required": ["data"]}


def _json_text(values: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    """A text that is one of `values` in JSON."""
    schema = {"anyOf": [_reference(value) for value in values]}
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


def _reference(schema: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=schema.__name__)}
