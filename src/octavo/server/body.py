"""A request's body: read within limits, then checked field by field, strictly."""

import asyncio
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
from starlette.requests import Request

from octavo.core.errors import InvalidRequestError
from octavo.core.json_limits import check_json_limits
from octavo.core.json_pieces import LARGE_BYTES, decode_json
from octavo.server.arriving import ArrivingBody
from octavo.server.context import ServerContext
from octavo.server.disconnect import ClientDisconnectedError
from octavo.server.errors import ApiError
from octavo.server.field_errors import field_error, unknown_field
from octavo.server.fields import UNREAD_FIELDS, NotBuiltFields


class BodySchema(Protocol):
    """A struct whose fields a body has."""

    __struct_fields__: ClassVar[tuple[str, ...]]
    not_built: ClassVar[NotBuiltFields]
    """What else its API has."""


Schema = TypeVar("Schema", bound=BodySchema)
Part = TypeVar("Part")


async def read_request(request: Request, context: ServerContext, schema: type[Schema]) -> Schema:
    """The body as `schema`.

    Raises `InvalidRequestError`, `ApiError` (408, 413, 415, 503 or a feature not built) or
    `ClientDisconnectedError`.
    """
    _check_media_type(request)
    config = context.config
    try:
        with context.arriving.begin() as body:
            data = await asyncio.wait_for(_read(request, body, config.body_limit_bytes), config.body_timeout_s)
    except asyncio.TimeoutError as error:
        message = f"the body did not arrive within {config.body_timeout_s:g} s; send it faster"
        raise ApiError(408, message, code="request_timeout") from error
    if len(data) < LARGE_BYTES:
        return parse(_decode(data), schema)
    return await asyncio.to_thread(lambda: parse(_decode(data), schema))


def parse(fields: Any, schema: type[Schema]) -> Schema:
    """Decoded JSON as `schema`, no value coerced and no field passed over. Raises `InvalidRequestError` or `ApiError`."""
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"the body is a JSON {_json_type(fields)}; it must be an object")
    known = _known_fields(fields, schema)
    try:
        return msgspec.convert(known, schema, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        raise field_error(error, schema, known) from None


def convert_part(value: Any, schema: type[Part], where: str) -> Part:
    """A part of a body that its schema leaves open, as strictly. Raises `InvalidRequestError` or `ApiError` that names `where`."""
    try:
        return msgspec.convert(value, schema, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        raise field_error(error, schema, value, where) from None


def _check_media_type(request: Request) -> None:
    """JSON must be declared: a web page can post undeclared bodies to a local server, but not declared ones."""
    declared = request.headers.get("content-type", "")
    if declared.partition(";")[0].strip().lower() != "application/json":
        message = f"Content-Type is {declared[:100]!r}; send JSON with Content-Type: application/json"
        raise ApiError(415, message, code="unsupported_media_type")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        message = f"Content-Encoding is {encoding[:100]!r}; send the body as it is"
        raise ApiError(415, message, code="unsupported_media_type")


async def _read(request: Request, body: ArrivingBody, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise _too_large(limit_bytes)
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        body.add(message.get("body", b""))
        if len(body.data) > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return bytes(body.data)


def _too_large(limit_bytes: int) -> ApiError:
    message = (
        f"the body has more than {limit_bytes} bytes; shorten it, or start the server with a larger max_body_bytes"
    )
    return ApiError(413, message, code="request_too_large")


def _decode(data: bytes) -> Any:
    if not data:
        raise InvalidRequestError("the body is empty; send a JSON object")
    check_json_limits(data)
    try:
        return decode_json(data)
    except (msgspec.MsgspecError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidRequestError(f"the body is not JSON in UTF-8: {error}") from None


def _known_fields(fields: dict[str, Any], schema: type[BodySchema]) -> dict[str, Any]:
    """The fields that `schema` has. Others are dropped where they cannot change the answer, and refused elsewhere."""
    names = schema.__struct_fields__
    known = {}
    for name, value in fields.items():
        if name in names:
            known[name] = value
        elif name in schema.not_built:
            schema.not_built[name].check(name, value)
        elif name not in UNREAD_FIELDS:
            raise unknown_field("", name, names)
    return known


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    return names.get(type(value), "value")
