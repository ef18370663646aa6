"""For models whose chat template knows no tools: they are told in words, and answer `{"tool_calls": [{…}, …]}`.

The conversation then holds functions, calls and results as text:

    functions  at the end of the system message
    calls      the assistant's content, as it should have written them
    results    a user's message, {"tool_results": [{"name": …, "content": …}, …]}
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from octavo.server.schemas import Function
from octavo.server.tools.format import Message, ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules, json_call, literal

_INSTRUCTION = (
    "You can call these functions, one JSON object a line:\n\n{functions}\n\n"
    "To call one or more of them, answer with nothing but this JSON object:\n"
    '{{"tool_calls": [{{"name": "the function\'s name", "arguments": {{"the parameter\'s name": "its value"}}}}]}}\n'
    "You are then given the results. Where no function helps, answer in plain text."
)


def _write_messages(functions: Sequence[Function], messages: list[Message]) -> list[Message]:
    written = list(_without_tools(messages))
    if not functions:
        return written
    lines = "\n".join(json.dumps(_described(function), ensure_ascii=False) for function in functions)
    instruction = _INSTRUCTION.format(functions=lines)
    if written[0]["role"] not in ("system", "developer"):
        return [{"role": "system", "content": instruction}, *written]
    return [{**written[0], "content": _extended(written[0]["content"], instruction)}, *written[1:]]


def _described(function: Function) -> dict[str, Any]:
    fields = {"name": function.name, "description": function.description, "parameters": function.parameters}
    return {name: value for name, value in fields.items() if value is not None}


def _extended(content: str | None, text: str) -> str:
    return f"{content}\n\n{text}" if content else text


def _without_tools(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls as content; results that follow each other, and what the user says to them, as one message.

    Many templates want turns to alternate.
    """
    names: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            name = names.get(message["tool_call_id"], message.get("name"))
            results.append({"name": name, "content": message["content"]})
            continue
        if results:
            written, results = _results_message(results), []
            if message["role"] == "user":
                yield {**message, "content": _extended(written["content"], message["content"])}
                continue
            yield written
        yield _calling_message(message, names) if "tool_calls" in message else message
    if results:
        yield _results_message(results)


def _calling_message(message: Message, names: dict[str, str]) -> Message:
    """The assistant's message with its calls in the content; notes in `names` which call is whose."""
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        names[call["id"]] = function["name"]
        calls.append({"name": function["name"], "arguments": function.get("arguments", {})})
    written = json.dumps({"tool_calls": calls}, ensure_ascii=False)
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "content": _extended(message["content"], written)}


def _results_message(results: Sequence[Mapping[str, Any]]) -> Message:
    return {"role": "user", "content": json.dumps({"tool_results": results}, ensure_ascii=False)}


def _write_calls(rules: CallRules) -> str:
    calls = rules.repeated("call", literal(", "))
    opening, closing = literal('{"tool_calls": ['), literal("]}")
    return f"calls: {opening} {calls} {closing}\n{rules.call_rules(json_call)}"


GENERIC_JSON = ToolFormat(
    name="json",
    matches=lambda template_source: True,
    frame=Frame(opening=("{", '"tool_calls"', ":", "["), closing=("]", "}"), separator=",", is_only_at_start=True),
    write_calls=_write_calls,
    write_messages=_write_messages,
)
