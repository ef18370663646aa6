"""Values that fields of /v1/responses must not have."""

from typing import Any

from server.bad_values.fields import EVERYWHERE, NOT_BOOLEANS, NOT_LENGTHS, NOT_UNICODE, Places, absent

FUNCTION = {"type": "function", "name": "f"}


def said(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x", **fields}]


def called(**fields: Any) -> list[dict[str, Any]]:
    return [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", **fields}]


RESPONSE_VALUES: Places = {
    **EVERYWHERE,
    **dict.fromkeys(("store", "parallel_tool_calls"), NOT_BOOLEANS),
    "instructions": [1, True, [], {}, NOT_UNICODE],
    "previous_response_id": [1, True, [], {}, *absent("previous_response_id", "", "../x"), NOT_UNICODE],
    "max_output_tokens": NOT_LENGTHS,
    "input": [None, 1, True, {}, [], NOT_UNICODE],
    "input[0]": [["Hi"], [None]],
    "input[0].role": [[{}], said(role="owner"), said(role="tool")],
    "input[0].content": [said(content=1), [{"type": "message", "role": "user"}]],
    "input[0].content[0].type": [said(content=[{"type": "poem"}])],
    "input[0].content[0]": [
        said(content=["x"]),
        said(content=[{"type": "input_file", "file_id": "x"}]),
        *(said(content=[{"type": "input_image", "image_url": url}]) for url in ("http://127.0.0.1/", "data:x")),
    ],
    "input[0].colour": [said(colour=1)],
    "input[0].type": [[{"type": "item_reference", "id": "x"}], [{"type": 1}]],
    "input[1].type": [[*said(), {"type": "poem"}]],
    "input[0].call_id": [called(call_id=""), [{"type": "function_call_output", "output": "x"}]],
    "input[0].name": [called(name="f" * 257)],
    "input[0].arguments": [called(arguments="{"), called(arguments={})],
    "input[0].output": [[{"type": "function_call_output", "call_id": "c"}]],
    "input[0].output[0]": [[{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]],
    "tools": [1, {}, "x", [FUNCTION] * 129],
    "tools[0]": [[1], ["f"], [{"type": "web_search", "search_context_size": "low"}]],
    "tools[0].type": [[{}], [{"type": 1}]],
    "tools[0].name": [[{"type": "function"}], [{"type": "function", "name": "a b"}]],
    "tools[0].function": [[{"type": "function", "function": {"name": "f"}}]],
    "tools[0].parameters": [[{**FUNCTION, "parameters": []}]],
    "tool_choice": ["x", 1, [], "required", "sometimes"],
    "tool_choice.name": [{}, {"type": "function"}],
    "tool_choice.type": [{"type": "web_search"}],
    "text": [1, "text"],
    "text.format": [
        {"format": "text"},
        {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"colour": 1}}},
    ],
    "text.format.type": [{"format": {"type": "poem"}}],
    "text.format.schema": [{"format": {"type": "json_schema", "name": "x"}}],
    "text.verbosity": [{"verbosity": "low"}],
    "reasoning": [1, "low"],
    "reasoning.effort": [{"effort": "huge"}, {"effort": 1}, {"effort": "low"}],
    "reasoning.summary": [{"summary": "auto"}],
    "metadata": [1, [], {str(i): "" for i in range(17)}],
    "metadata[...]": [{"a": 1}, {"a": "x" * 513}],
    "background": [True, 1],
    "include": [["message.output_text.logprobs"]],
    "truncation": ["auto", 1],
    "conversation": ["conv_1"],
    "max_tool_calls": [1],
    "messages": [[], 1, said()],
    "prompt": ["x", 1, {"id": "x"}],
    "max_tokens": [1],
    "top_logprobs": [1],
}
