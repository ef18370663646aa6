"""Values that fields of /v1/completions and /v1/chat/completions must not have."""

from typing import Any

from server.bad_values.fields import (
    BEYOND_VOCABULARY,
    EVERYWHERE,
    NOT_BOOLEANS,
    NOT_IDS,
    NOT_INTEGERS,
    NOT_LENGTHS,
    NOT_LISTS_OF_IDS,
    NOT_LISTS_OF_TEXTS,
    NOT_NUMBERS,
    NOT_TEXTS,
    NOT_UNICODE,
    Places,
)


def said(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x", **fields}]


def function(**fields: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f"}, **fields}]


NOT_BUILT = ("guided_json", "guided_regex", "prompt_embeds", "lora", "documents", "logits_processors")
BOTH: Places = {
    **EVERYWHERE,
    "min_p": [*NOT_NUMBERS, -0.1, 1.1],
    "presence_penalty": [*NOT_NUMBERS, -2.1, -3, 2.1, 3],
    "frequency_penalty": [*NOT_NUMBERS, -2.1, -3, 2.1, 3],
    "repetition_penalty": [*NOT_NUMBERS, 0, -1, 101],
    "n": [*NOT_INTEGERS, 0, -1, 129, 1 << 63, -(1 << 63)],
    "seed": [*NOT_INTEGERS, -(1 << 63) - 1],
    "max_tokens": NOT_LENGTHS,
    "max_completion_tokens": NOT_LENGTHS,
    "min_tokens": [*NOT_INTEGERS, -1, 1 << 62, 1 << 63],
    "prompt_logprobs": [*NOT_INTEGERS, -1, 21, 1 << 63],
    **dict.fromkeys(("ignore_eos", "skip_special_tokens", "include_stop_str_in_output"), NOT_BOOLEANS),
    "stop_token_ids": NOT_LISTS_OF_IDS,
    "stop_token_ids[0]": NOT_IDS,
    "allowed_token_ids": [*NOT_LISTS_OF_IDS, []],
    "allowed_token_ids[0]": NOT_IDS,
    "stop": [*NOT_LISTS_OF_TEXTS, "", ["a"] * 65, "x" * 1025, ["x" * 1024] * 5],
    "stop[0]": NOT_TEXTS,
    "stop[1]": [["a", None]],
    "bad_words": [*NOT_LISTS_OF_TEXTS, "x", ["x" * 257]],
    "bad_words[0]": NOT_TEXTS,
    "logit_bias": [{"x": 1}, {"1": 101}, {"1": -101}, {"-1": 1}, {"1.5": 1}, [1], 1, "a",
                   {str(token): 1 for token in range(1025)}],
    "logit_bias[...]": [{"1": "1"}, {"1": None}],
    "stream_options": [True, [], 1],
    "stream_options.x": [{"x": 1}],
    "stream_options.include_usage": [{"include_usage": 1}],
    "structured_outputs": [1, [], {}, {"regex": "a", "choice": ["a"]}, {"choice": []}, {"choice": [""]}, {"json_object": False}],
    "structured_outputs.choice[0]": [{"choice": [1]}],
    "structured_outputs.x": [{"x": 1}],
    "structured_outputs.json": [{"json": 1}],
    "structured_outputs.regex": [{"regex": 1}],
    "response_format": [1, [], "json"],
    "response_format.type": [{}, {"type": "x"}],
    "response_format.json_schema": [{"type": "json_schema"}],
    "response_format.json_schema.name": [{"type": "json_schema", "json_schema": {"name": "a b"}}],
    **{name: ["x", {"a": 1}, [1], 1] for name in NOT_BUILT},
}  # fmt: skip
COMPLETION_VALUES: Places = {
    **BOTH,
    "prompt": [None, 1, True, {}, [], [[]], ["a", 1], ["a", [1]], [1, [1]], [-1], [1 << 63], [BEYOND_VOCABULARY],
               [[97], [BEYOND_VOCABULARY]], [1] * 200_001, NOT_UNICODE],
    "prompt[0]": [[None], [True], [1.5]],
    "prompt[0][0]": [[["a"]], [[[1]]]],
    "logprobs": [*NOT_INTEGERS, -1, 21],
    "best_of": [*NOT_INTEGERS, 2],
    "echo": NOT_BOOLEANS,
    "suffix": ["x", 1],
    "messages": [[], 1],
    "top_logprobs": [1],
}  # fmt: skip
CHAT_VALUES: Places = {
    **BOTH,
    "messages": [None, "Hi", [], {}],
    "messages[0]": [["Hi"], [None]],
    "messages[0].role": [[{}], [{"content": "x"}], said(role="owner"), said(role=1)],
    "messages[0].content": [[{"role": "user"}], said(content=1), said(content=None), said(content={})],
    "messages[0].content[0]": [
        said(content=["x"]),
        *(said(content=[{"type": kind}]) for kind in ("poem", "text", "input_audio")),
        *(said(content=[{"type": "image_url", "image_url": {"url": url}}]) for url in ("http://127.0.0.1/", "data:x")),
    ],
    "messages[0].colour": [said(colour=1)],
    "messages[0].audio": [said(role="assistant", audio={})],
    "messages[0].function_call": [[{"role": "assistant", "function_call": {}}]],
    "logprobs": [1, "true", []],
    "top_logprobs": [*NOT_INTEGERS, 1, -1, 21],
    "tools": [1, {}, "x"],
    "tools[0]": [[1]],
    "tools[0].type": [[{}], function(type="x")],
    "tools[0].function": [[{"type": "function"}]],
    "tools[0].function.name": [function(function={"name": "a b"})],
    "tool_choice": ["x", 1, [], "required", *function()],
    "tool_choice.function": [{}, {"type": "function"}],
    "parallel_tool_calls": NOT_BOOLEANS,
    "add_generation_prompt": NOT_BOOLEANS,
    "reasoning_effort": ["x", 1],
    "chat_template_kwargs": [[], 1, {"messages": []}, {"self": 1}, {"__class__": 1}, {"tools": []},
                             {"add_generation_prompt": True}, {"thinking_budget": 1}],
    "prompt": ["x", 1],
    "echo": [True],
    "best_of": [1],
}  # fmt: skip
