"""A request's messages, checked and brought into the plain form that chat templates read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.core.errors import InvalidRequestError
from octavo.core.json_limits import check_json_limits
from octavo.tokenizer.content_format import ContentFormat

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MAX_DEPTH = 64
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


def normalise_messages(messages: Sequence[Mapping[str, Any]], content_format: ContentFormat) -> list[dict[str, Any]]:
    """Copies of `messages` in plain types, content in `content_format`, tool arguments parsed.

    Raises `InvalidRequestError` naming the message and field at fault.
    """
    given: Any = messages
    if not isinstance(given, (list, tuple)) or not given:
        raise InvalidRequestError("messages must be a list with at least one message", param="messages")
    plain = [_message(message, f"messages[{index}]", content_format) for index, message in enumerate(messages)]
    _parse_arguments(plain)
    return plain


def plain_data(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of JSON-like `value` in exact built-in types: a template sees no objects with methods of their own."""
    if depth > _MAX_DEPTH:
        raise InvalidRequestError(f"{where} is nested deeper than {_MAX_DEPTH} levels", param=where)
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidRequestError(f"{where} has a key that is not a string", param=where)
        return {str.__str__(key): plain_data(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise InvalidRequestError(f"{where} is a {type(value).__name__}, not JSON data", param=where)


def _message(message: Any, where: str, content_format: ContentFormat) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequestError(f"{where} is a {type(message).__name__}, not an object", param=where)
    plain: dict[str, Any] = plain_data(message, where)
    role = plain.get("role")
    if role not in ROLES:
        got = f"{where}.role is missing" if role is None else f"{where}.role={str(role)[:64]!r} is not allowed"
        raise InvalidRequestError(f"{got}; allowed are {', '.join(ROLES)}", param=f"{where}.role")
    plain["content"] = _content(plain, f"{where}.content", content_format)
    if plain.get("tool_calls"):
        plain["tool_calls"] = _tool_calls(plain["tool_calls"], f"{where}.tool_calls")
    else:
        plain.pop("tool_calls", None)  # templates ask whether the field is there
    reasoning = next((plain[key] for key in _REASONING_KEYS if plain.get(key) is not None), None)
    if reasoning is not None:
        plain.setdefault("thinking", reasoning)
        plain["reasoning_content"] = reasoning
    return plain


def _content(message: dict[str, Any], where: str, content_format: ContentFormat) -> str | list[dict[str, Any]] | None:
    content = message.get("content")
    if content is None:
        if message["role"] == "assistant":  # it may have called tools and said nothing
            return None if message.get("tool_calls") else ""
        raise InvalidRequestError(f"{where} is missing; it must be a string or a list of parts", param=where)
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content_format is ContentFormat.PARTS else content
    if not isinstance(content, list):
        raise InvalidRequestError(
            f"{where} is a {type(content).__name__}; it must be a string or a list of parts", param=where
        )
    texts = [_text_of_part(part, f"{where}[{index}]") for index, part in enumerate(content)]
    if content_format is ContentFormat.STRING:
        return "\n".join(texts)
    return [{"type": "text", "text": text} for text in texts]


def _text_of_part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image_url", "input_audio", "video_url", "image", "audio", "video", "file"):
        raise InvalidRequestError(f"{where} is of type {kind!r}, but this model reads text only", param=where)
    if kind != "text" or not isinstance(part.get("text"), str):
        raise InvalidRequestError(f'{where} is not a known part; allowed is {{"type": "text", "text": …}}', param=where)
    text: str = part["text"]
    return text


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise InvalidRequestError(f"{where} is a {type(calls).__name__}, not a list", param=where)
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequestError(f"{where}[{index}] has no function with a name", param=f"{where}[{index}]")
    return calls


def _parse_arguments(messages: Sequence[Mapping[str, Any]]) -> None:
    """OpenAI sends a call's arguments as a JSON text; templates expect the object in it."""
    functions = {
        f"messages[{index}].tool_calls[{at}].function.arguments": call["function"]
        for index, message in enumerate(messages)
        for at, call in enumerate(message.get("tool_calls", ()))
        if isinstance(call["function"].get("arguments"), str)
    }
    texts = ",".join(function["arguments"] for function in functions.values())
    try:
        check_json_limits(texts.encode(errors="replace"))  # of all together, as they are parsed in this order
    except InvalidRequestError as error:
        raise InvalidRequestError(f"the arguments of the messages' calls: {error.message}", param="messages") from None
    for at, function in functions.items():
        text = function["arguments"]
        try:
            function["arguments"] = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{at} is not JSON: {error}", param=at) from error
