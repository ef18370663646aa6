"""The bad-input matrix: each way in × each field × values that it must not have, and bodies that are no request at all."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from server.paths import CHAT, COMPLETIONS, COUNT, DETOKENIZE, MESSAGES, RESPONSES, TOKENIZE

from octavo.core.json_limits import MAX_JSON_DEPTH

BEYOND_VOCABULARY = 1 << 40
"""A token id that no model has."""

NOT_NUMBERS = ['"1"', "true", "false", "[]", "[1]", "{}", '"NaN"', "NaN", "Infinity", "-Infinity", "1e400", "9" * 400]
NOT_INTEGERS = [*NOT_NUMBERS, "1.5", "1.0", str(1 << 64), str(-(1 << 64))]
NOT_BOOLEANS = ['"true"', "1", "0", "[]", "{}", "1.5"]
NOT_LISTS_OF_IDS = ['"1"', "1", "true", "{}", '["1"]', "[true]", "[1.5]", "[null]", "[-1]", f"[{BEYOND_VOCABULARY}]"]
NOT_LISTS_OF_TEXTS = ["1", "true", "{}", "[1]", "[null]", '[""]', "[[]]"]
NUMBERS = {
    "temperature": ["-0.1", "101"],
    "top_p": ["0", "-1", "1.1"],
    "min_p": ["-0.1", "1.1"],
    "presence_penalty": ["-2.1", "2.1"],
    "frequency_penalty": ["-2.1", "2.1"],
    "repetition_penalty": ["0", "-1", "101"],
    "timeout": ["0", "-1", "86401"],
}
INTEGERS = {
    "n": ["0", "-1", "129"],
    "top_k": ["-2"],
    "seed": [],
    "max_tokens": ["0", "-1", str(1 << 62)],
    "max_completion_tokens": ["0", "-1", str(1 << 62)],
    "min_tokens": ["-1", str(1 << 62)],
    "prompt_logprobs": ["-1", "21"],
    "priority": ["1", "-1"],
}
NOT_BUILT = ("guided_json", "guided_regex", "prompt_embeds", "lora", "documents", "logits_processors")
UNKNOWN = ("colour", "temprature", "__class__", "a.b", "")
FIELDS: dict[str, list[str]] = {
    **{name: NOT_NUMBERS + values for name, values in NUMBERS.items()},
    **{name: NOT_INTEGERS + values for name, values in INTEGERS.items()},
    **dict.fromkeys(
        ("ignore_eos", "skip_special_tokens", "include_stop_str_in_output", "stream"), NOT_BOOLEANS
    ),
    "stop_token_ids": NOT_LISTS_OF_IDS,
    "allowed_token_ids": [*NOT_LISTS_OF_IDS, "[]"],
    "stop": [*NOT_LISTS_OF_TEXTS, '""', json.dumps(["a"] * 65), json.dumps("x" * 1025), json.dumps(["x" * 1024] * 5)],
    "bad_words": [*NOT_LISTS_OF_TEXTS, '"x"', json.dumps(["x" * 257])],
    "logit_bias": ['{"x": 1}', '{"1": "1"}', '{"1": 101}', '{"1": -101}', '{"-1": 1}', '{"1.5": 1}', "[1]", "1", '"a"'],
    "cache_salt": ['""', "1", "[]", json.dumps("x" * 1025), '"\\ud800"'],
    "stream_options": ["true", "[]", "1", '{"x": 1}', '{"include_usage": 1}'],
    "model": ["null", "1", "[]", "{}", "true", '""', '"other"', '"../x"', '"\\u0000"'],
    "structured_outputs": ["1", "[]", "{}", '{"regex": "a", "choice": ["a"]}', '{"choice": []}', '{"choice": [""]}',
                           '{"choice": [1]}', '{"x": 1}', '{"json": 1}', '{"json_object": false}', '{"regex": 1}'],
    "response_format": ["1", "[]", "{}", '"json"', '{"type": "x"}', '{"type": "json_schema"}',
                        '{"type": "json_schema", "json_schema": {"name": "a b"}}'],
    **{name: ['"x"', '{"a": 1}', "[1]", "1"] for name in NOT_BUILT},
    **{name: ["1", "null", '"x"'] for name in UNKNOWN},
}  # fmt: skip
_OPENAI_FIELDS: dict[str, dict[str, list[str]]] = {
    COMPLETIONS: {
        "prompt": ["null", "1", "true", "{}", "[]", "[[]]", "[null]", "[true]", "[1.5]", '["a", 1]', '["a", [1]]',
                   '[["a"]]', "[[[1]]]", "[-1]", f"[{BEYOND_VOCABULARY}]", "[" + "1," * 200_000 + "1]", '"\\ud800"'],
        "logprobs": [*NOT_INTEGERS, "-1", "21"],
        "best_of": [*NOT_INTEGERS, "2"],
        "echo": NOT_BOOLEANS,
        "suffix": ['"x"', "1"],
        "messages": ["[]", "1"],
    },
    CHAT: {
        "messages": ["null", '"Hi"', "[]", "{}", '["Hi"]', "[null]", "[{}]", '[{"role": "user"}]', '[{"content": "x"}]',
                     '[{"role": "owner", "content": "x"}]', '[{"role": 1, "content": "x"}]',
                     '[{"role": "user", "content": 1}]', '[{"role": "user", "content": ["x"]}]',
                     '[{"role": "user", "content": [{"type": "poem"}]}]',
                     '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}]',
                     '[{"role": "user", "content": "x", "colour": 1}]'],
        "logprobs": ["1", '"true"', "[]"],
        "top_logprobs": [*NOT_INTEGERS, "1", "-1", "21"],
        "tools": ["1", "{}", '"x"', "[1]", "[{}]", '[{"type": "function"}]', '[{"type": "x", "function": {"name": "f"}}]',
                  '[{"type": "function", "function": {"name": "a b"}}]'],
        "tool_choice": ['"x"', "1", "[]", "{}", '{"type": "function"}', '"required"',
                        '{"type": "function", "function": {"name": "f"}}'],
        "parallel_tool_calls": NOT_BOOLEANS,
        "add_generation_prompt": NOT_BOOLEANS,
        "reasoning_effort": ['"x"', "1"],
        "chat_template_kwargs": ["[]", "1", '{"messages": []}', '{"self": 1}', '{"__class__": 1}'],
        "prompt": ['"x"', "1"],
    },
}  # fmt: skip
_SHARED_FIELDS: dict[str, list[str]] = {
    **{name: FIELDS[name] for name in ("model", "temperature", "top_p", "timeout", "top_k", "priority", "cache_salt")},
    **{name: ["1", "null", '"x"'] for name in UNKNOWN},
    "stream": NOT_BOOLEANS,
}
"""What /v1/responses and /v1/messages call as completions do."""
_RESPONSES_FIELDS: dict[str, list[str]] = {
    **_SHARED_FIELDS,
    **dict.fromkeys(("store", "parallel_tool_calls"), NOT_BOOLEANS),
    "instructions": ["1", "true", "[]", "{}", '"\\ud800"'],
    "previous_response_id": ["1", "true", "[]", "{}", '""', '"../x"', '"\\ud800"'],
    "max_output_tokens": [*NOT_INTEGERS, "0", "-1", str(1 << 62)],
    "input": ["null", "1", "true", "{}", "[]", '["Hi"]', "[null]", "[{}]", '[{"role": "owner", "content": "x"}]',
              '[{"role": "user", "content": 1}]', '[{"role": "user", "content": [{"type": "poem"}]}]', '"\\ud800"',
              '[{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/"}]}]',
              '[{"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}]',
              '[{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]',
              '[{"type": "function_call_output", "call_id": "c"}]', '[{"type": "item_reference", "id": "x"}]'],
    "tools": ["1", "{}", '"x"', "[1]", "[{}]", '[{"type": "function"}]', '[{"type": "function", "name": "a b"}]'],
    "tool_choice": ['"x"', "1", "[]", "{}", '"required"', '{"type": "function"}', '{"type": "web_search"}'],
    "text": ["1", '"text"', '{"format": "text"}', '{"format": {"type": "poem"}}',
             '{"format": {"type": "json_schema", "name": "x"}}'],
    "reasoning": ["1", '"low"', '{"effort": "huge"}', '{"effort": 1}', '{"summary": "auto"}'],
    "metadata": ["1", "[]", '{"a": 1}', json.dumps({"a": "x" * 513}), json.dumps(dict.fromkeys("abcdefghijklmnopq", ""))],
    "background": ["true", "1"],
    "truncation": ['"auto"', "1"],
    "max_tool_calls": ["1"],
    "messages": ["[]", "1"],
    "prompt": ['"x"', "1"],
}  # fmt: skip
_PROMPT_FIELDS: dict[str, list[str]] = {
    "model": FIELDS["model"],
    "messages": ["null", '"Hi"', "[]", "{}", '["Hi"]', "[null]", "[{}]", '[{"role": "user"}]', '[{"content": "x"}]',
                 '[{"role": "system", "content": "x"}]', '[{"role": "user", "content": 1}]', '[{"role": 1, "content": "x"}]',
                 '[{"role": "user", "content": "x", "colour": 1}]', '[{"role": "user", "content": [{"type": "poem"}]}]',
                 '[{"role": "user", "content": [{"type": "text"}]}]', '[{"role": "user", "content": "\\ud800"}]',
                 '[{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/"}}]}]',
                 '[{"role": "user", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}]',
                 '[{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "", "content": "x"}]}]'],
    "system": ["1", "true", "{}", '["x"]', '[{"type": "image"}]', '"\\ud800"'],
    "tools": ["1", "{}", '"x"', "[1]", "[{}]", '[{"name": "f"}]', '[{"name": "a b", "input_schema": {}}]'],
    "tool_choice": ['"auto"', "1", "[]", "{}", '{"type": "x"}', '{"type": "tool"}', '{"type": "any"}'],
    "thinking": ["true", "1", '{"type": "enabled"}', '{"type": "enabled", "budget_tokens": 0}', '{"type": "hard"}'],
    "output_config": ["1", '{"format": {"type": "json_object"}}', '{"effort": "huge"}'],
    "cache_control": ["1", '"x"'],
    "container": ['"x"'],
    "mcp_servers": ['[{"type": "url"}]'],
    "prompt": ['"x"', "1"],
}  # fmt: skip
"""Of /v1/messages and of count_tokens, which takes no others."""
_MESSAGES_FIELDS: dict[str, list[str]] = {
    **_SHARED_FIELDS,
    **_PROMPT_FIELDS,
    "max_tokens": ["null", *NOT_INTEGERS, "0", "-1", str(1 << 62)],
    "stop_sequences": [*NOT_LISTS_OF_TEXTS, '"a"', json.dumps(["a"] * 65), json.dumps(["x" * 1025])],
    "stop": ['["a"]'],
    "n": ["1"],
}
_COUNT_FIELDS: dict[str, list[str]] = {
    **_PROMPT_FIELDS,
    **{name: ["1", "null", '"x"'] for name in UNKNOWN},
    "stream": ["true", "1"],
    "max_tokens": ["1"],
    "temperature": ["1"],
}
TOKEN_FIELDS: dict[str, dict[str, list[str]]] = {
    TOKENIZE: {
        "prompt": ["null", "1", "[]", "{}", "true", '["a"]', '"\\ud800"'],
        "add_special_tokens": NOT_BOOLEANS,
        "return_token_strs": NOT_BOOLEANS,
        "messages": ["1", "[]", "{}", '"x"'],
        "colour": ["1"],
    },
    DETOKENIZE: {"tokens": ["null", *NOT_LISTS_OF_IDS], "colour": ["1"]},
}
_DEEP = b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1)
BODIES = [
    b"", b" ", b"{", b"}", b"[]", b"1", b'"x"', b"null", b"true", b"not json", b"\xff\xfe", b'{"a":}', b"{}{}", b"{'a': 1}",
    b'{"model": "\xff"}', b"\xef\xbb\xbf{}", b"NaN", b'{"a": NaN}', b'{"a": 1e400}', b'{"n": ' + b"9" * 5000 + b"}",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + _DEEP + b"}", b'{"metadata": ' + _DEEP + b"}", b'{"a": "\x00"}',
    b'{"metadata": [' + b"[]," * 70_000 + b"1]}", b"a=1&b=2", b"--x\r\n", b"\x1f\x8b\x08\x00", b'{"model": 1',
]  # fmt: skip
MEDIA_TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]


class BadInput(NamedTuple):
    path: str
    content: bytes
    media_type: str = "application/json"


def bad_inputs(model: str) -> Iterator[BadInput]:
    """All of them; each is wrong in one place, and fitted out for a server of that model."""
    name = json.dumps(model)
    prompt, messages = '"Hi"', '[{"role": "user", "content": "Hi"}]'
    streamed: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {
        COMPLETIONS: ({"prompt": prompt}, {**FIELDS, **_OPENAI_FIELDS[COMPLETIONS]}),
        CHAT: ({"messages": messages}, {**FIELDS, **_OPENAI_FIELDS[CHAT]}),
        RESPONSES: ({"input": prompt}, _RESPONSES_FIELDS),
        MESSAGES: ({"messages": messages, "max_tokens": "4"}, _MESSAGES_FIELDS),
    }
    whole = {
        COUNT: ({"messages": messages}, _COUNT_FIELDS),
        TOKENIZE: ({"prompt": prompt}, TOKEN_FIELDS[TOKENIZE]),
        DETOKENIZE: ({"tokens": "[1]"}, TOKEN_FIELDS[DETOKENIZE]),
    }
    for path, (sound, fields) in {**streamed, **whole}.items():
        body = {"model": name, **sound}
        for variant in ({}, {"stream": "true"}) if path in streamed else ({},):
            for field, values in fields.items():
                for value in values:
                    yield BadInput(path, _written({**body, **variant, field: value}))
        for content in BODIES:
            yield BadInput(path, content)
        for media_type in MEDIA_TYPES:
            yield BadInput(path, _written(body), media_type)


def _written(fields: dict[str, str]) -> bytes:
    """A JSON object of values that are written already, of which some are no JSON."""
    return ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}").encode()
