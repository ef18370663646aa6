"""Values that fields of /v1/messages and of its count_tokens must not have."""

from typing import Any

from server.bad_values.fields import (
    EVERYWHERE,
    NOT_LENGTHS,
    NOT_LISTS_OF_TEXTS,
    NOT_TEXTS,
    NOT_UNICODE,
    UNKNOWN_FIELDS,
    Places,
    Written,
)

FUNCTION = {"name": "f", "input_schema": {"type": "object"}}


def said(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x", **fields}]


def block(**fields: Any) -> list[dict[str, Any]]:
    """A message of one block."""
    return said(content=[fields])


def called(**fields: Any) -> list[dict[str, Any]]:
    """A conversation that begins with a call."""
    use = {"type": "tool_use", "id": "c", "name": "f", "input": {}, **fields}
    return [{"role": "assistant", "content": [use]}, *said()]


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "c", "content": "x", **fields}


CONVERSATION_VALUES: Places = {
    "model": EVERYWHERE["model"],
    "messages": [
        *(None, "Hi", [], {}, [*said(), {"role": "assistant", "content": "The"}]),
        Written('[{"role": "user", "content": "\\ud800"}]'),
    ],
    "messages[0]": [["Hi"], [None]],
    "messages[0].role": [[{}], [{"content": "x"}], said(role="system"), said(role=1)],
    "messages[0].content": [[{"role": "user"}], said(content=1), said(content=None)],
    "messages[0].colour": [said(colour=1)],
    "messages[0].name": [said(name="y")],
    "messages[0].content[0]": [
        said(content=["x"]),
        block(type="tool_use", id="c", name="f", input={}),
        block(type="thinking", thinking="x"),
        [{"role": "assistant", "content": [result()]}, *said()],
    ],
    "messages[0].content[0].type": [block(type="poem"), block(text="x"), block(type="redacted_thinking", data="x")],
    "messages[0].content[0].text": [block(type="text")],
    "messages[0].content[0].colour": [block(type="text", text="x", colour=1)],
    "messages[0].content[0] is of type 'image'": [
        block(type="image", source={"type": "url", "url": "http://127.0.0.1/"}),
        block(type="image", source={"type": "base64", "data": "x"}),
    ],
    "messages[0].content[0] is of type 'document'": [block(type="document", source={})],
    "messages[0].content[0].input": [called(input="{}")],
    "messages[0].content[0].id": [called(id="")],
    "messages[0].content[0].name": [called(name="f" * 257)],
    "messages[0].content[0].tool_use_id": [block(**result(tool_use_id=""))],
    "messages[0].content[0].content": [block(**result(content=1))],
    "messages[0].content[0].content[0] is of type 'image'": [block(**result(content=[{"type": "image"}]))],
    "messages[0].content[0].is_error": [block(**result(is_error="yes"))],
    "system": [1, True, {}, NOT_UNICODE],
    "system[0]": [["x"]],
    "system[0].type": [[{"type": "image"}]],
    "tools": [1, {}, "x", [FUNCTION] * 129],
    "tools[0]": [[1], ["f"]],
    "tools[1]": [[FUNCTION, FUNCTION]],
    "tools[0].name": [
        [{}],
        [{"name": "a b", "input_schema": {}}],
        [{"input_schema": {}}],
        [{**FUNCTION, "name": "a b"}],
    ],
    "tools[0].input_schema": [[{"name": "f"}], [{**FUNCTION, "input_schema": []}]],
    "tools[0].colour": [[{**FUNCTION, "colour": 1}]],
    "tools[0] is of type 'web_search_20250305'": [
        [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]
    ],
    "tool_choice": ["auto", 1, [], {"type": "any"}],
    "tool_choice.type": [{}, {"type": "x"}, {"type": "sometimes"}],
    "tool_choice.name": [{"type": "tool"}],
    "tool_choice.disable_parallel_tool_use": [{"type": "none", "disable_parallel_tool_use": True}],
    "thinking": [True, 1],
    "thinking.budget_tokens": [
        {"type": "enabled", **most} for most in ({}, {"budget_tokens": 0}, {"budget_tokens": 1024})
    ],
    "thinking.type": [{"type": "hard"}],
    "thinking.display": [{"type": "adaptive", "display": "omitted"}],
    "output_config": [1],
    "output_config.format.type": [{"format": {"type": "json_object"}}],
    "output_config.effort": [{"effort": "huge"}, {"effort": "low"}],
    "cache_control": [1, "x"],
    "container": ["x"],
    "mcp_servers": [[{"type": "url"}]],
    "prompt": ["x", 1],
}
"""Of both; count_tokens takes no others."""
MESSAGE_VALUES: Places = {
    **EVERYWHERE,
    **CONVERSATION_VALUES,
    "max_tokens": [None, *NOT_LENGTHS],
    "stop_sequences": [*NOT_LISTS_OF_TEXTS, "a", ["a"] * 65, ["x" * 1025], ["x" * 999] * 5],
    "stop_sequences[0]": [*NOT_TEXTS, [""], ["x" * 1025]],
    "stop": [["a"]],
    "n": [1],
}
COUNT_VALUES: Places = {
    **UNKNOWN_FIELDS,
    **CONVERSATION_VALUES,
    "stream": [True, 1],
    "max_tokens": [1],
    "temperature": [1],
}
