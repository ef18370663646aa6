"""A request's body: read within limits, then checked field by field, strictly."""

import asyncio
import difflib
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from octavo.config.server_config import ServerConfig
from octavo.core.errors import InvalidRequestError
from octavo.core.json_limits import check_json_limits
from octavo.server.disconnect import ClientDisconnectedError
from octavo.server.errors import ApiError, not_built
from octavo.server.fields import NOT_BUILT_FIELDS, UNREAD_FIELDS

_LARGE_BYTES = 1 << 17
"""A body from this size on is parsed in a thread: other requests do not wait for it."""

Schema = TypeVar("Schema", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.+)`")


async def read_request(request: Request, config: ServerConfig, schema: type[Schema]) -> Schema:
    """The body as `schema`.

    Raises `InvalidRequestError`, `ApiError` (408, 413, 415 or a feature not built) or
    `ClientDisconnectedError`.
    """
    _check_media_type(request)
    try:
        data = await asyncio.wait_for(_read(request, config.body_limit_bytes), config.body_timeout_s)
    except asyncio.TimeoutError as error:
        message = f"the body did not arrive within {config.body_timeout_s:g} s; send it faster"
        raise ApiError(408, message, code="request_timeout") from error
    if len(data) < _LARGE_BYTES:
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
        raise _readable(str(error)) from None


def convert_part(value: Any, schema: type[Schema], where: str) -> Schema:
    """A part of a body that its schema leaves open, as strictly. Raises `InvalidRequestError` that names `where`."""
    try:
        return msgspec.convert(value, schema, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        raise _readable(str(error), where) from None


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


async def _read(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > limit_bytes:
        raise _too_large(limit_bytes)
    data = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        data += message.get("body", b"")
        if len(data) > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return bytes(data)


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
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidRequestError(f"the body is not JSON in UTF-8: {error}") from None


def _known_fields(fields: dict[str, Any], schema: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields that `schema` has. Others are dropped where they cannot change the answer, and refused elsewhere."""
    names = schema.__struct_fields__
    known = {}
    for name, value in fields.items():
        if name in names:
            known[name] = value
        elif name in NOT_BUILT_FIELDS:
            if value is not None and not any(_same(value, harmless) for harmless in NOT_BUILT_FIELDS[name]):
                raise not_built(400, _not_built_message(name), param=name)
        elif name not in UNREAD_FIELDS:
            near = difflib.get_close_matches(name[:64], names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            raise ApiError(400, f"unknown field {name[:200]!r}; {hint}", code="unknown_parameter", param=name[:200])
    return known


def _same(value: Any, harmless: Any) -> bool:
    """Equality that tells true from 1."""
    return type(value) is type(harmless) and value == harmless


def _not_built_message(name: str) -> str:
    harmless = NOT_BUILT_FIELDS[name]
    if not harmless:
        return f"{name} is not built yet; leave it out"
    allowed = " or ".join(msgspec.json.encode(value).decode() for value in harmless)
    return f"{name} is not built yet, but for {allowed}; leave it out"


def _readable(message: str, where: str = "") -> InvalidRequestError:
    """msgspec's words with the field in front: «n: expected int | null, got str». `where` leads to what was read."""
    place = _PLACE.match(message)
    assert place is not None
    what, path = place["what"].replace("`", ""), place["path"] or ""
    if where:
        path = f"{where}.{path}".rstrip(".")
    if place["key"]:
        path = f"{path} (a key)"
    for pattern, verdict in ((_MISSING, "is missing"), (_UNKNOWN, "is an unknown field")):
        found = pattern.match(place["what"])
        if found:
            path = f"{path}.{found['name']}" if path else found["name"]
            return InvalidRequestError(f"{path} {verdict}", param=path)
    name = path or "the body"
    return InvalidRequestError(f"{name}: {what[:1].lower()}{what[1:]}", param=path.removesuffix(" (a key)") or None)


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    return names.get(type(value), "value")
