"""The bad-input matrix: each way in × each field × values that it must not have, and bodies that are no request at all."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from octavo.server.json_limits import MAX_JSON_DEPTH

COMPLETIONS, CHAT, TOKENIZE, DETOKENIZE = "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"
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
    **dict.fromkeys(("stop_token_ids", "allowed_token_ids"), NOT_LISTS_OF_IDS),
    "allowed_token_ids": [*NOT_LISTS_OF_IDS, "[]"],
    "stop": [*NOT_LISTS_OF_TEXTS, '""', json.dumps(["a"] * 65), json.dumps("x" * 1025)],
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
OWN_FIELDS: dict[str, dict[str, list[str]]] = {
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
    sound: dict[str, dict[str, str]] = {
        COMPLETIONS: {"model": name, "prompt": prompt},
        CHAT: {"model": name, "messages": messages},
        TOKENIZE: {"model": name, "prompt": prompt},
        DETOKENIZE: {"model": name, "tokens": "[1]"},
    }
    for path, body in sound.items():
        of_path = {**FIELDS, **OWN_FIELDS[path]} if path in OWN_FIELDS else TOKEN_FIELDS[path]
        for variant in ({}, {"stream": "true"}) if path in OWN_FIELDS else ({},):
            for field, values in of_path.items():
                for value in values:
                    yield BadInput(path, _written({**body, **variant, field: value}))
        for content in BODIES:
            yield BadInput(path, content)
        for media_type in MEDIA_TYPES:
            yield BadInput(path, _written(body), media_type)


def _written(fields: dict[str, str]) -> bytes:
    """A JSON object of values that are written already, of which some are no JSON."""
    return ("{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}").encode()
