"""Tool calls as models write them: any, whole or broken, in every format, and how they are read."""

import itertools
import json

from hypothesis import settings
from hypothesis import strategies as st

from octavo.server.answer_events import WholeAnswer
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.hermes import HERMES
from octavo.server.tools.llama3 import LLAMA3
from octavo.server.tools.mistral import MISTRAL, MISTRAL_ARGS
from octavo.server.tools.parser import ToolCallParser

MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
Call = tuple[str, str]
"""Name, and arguments as JSON text."""
NASTY = '{"text": "a } ] \\" </tool_call> [TOOL_CALLS] 👋🏽 日本 \\\\", "deep": [{"x": [1, -2.5e3, null]}, {}]}'
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=8) | st.sampled_from(("{", "}]", '"\\', "👩‍👩‍👧", "日本")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
arguments = st.builds(
    lambda fields, is_ascii, indent: json.dumps(fields, ensure_ascii=is_ascii, indent=indent),
    st.dictionaries(st.text(max_size=5), values, max_size=3),
    st.booleans(),
    st.sampled_from((None, 1)),
)
calls = st.lists(st.tuples(names, arguments), min_size=1, max_size=3)
plain_texts = st.text(
    st.characters(exclude_characters="<[{\ud800", categories=("L", "N", "P", "Zs", "So")), max_size=20
)
rubble = st.text(max_size=10) | st.sampled_from(
    (
        "<tool_call>", "</tool_call>", "<tool_", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "\n", "{", "}",
        "[", "]", ",", ";", '"name"', '"arguments"', '"parameters"', ": ", '"f"', '{"tool_calls": [', '"', "\\", "1",
        '{"name": "f", "arguments": {"a": 1}}', '{"arguments": {}, "name": "g"}', "f[ARGS]{}", NASTY,
    )
)  # fmt: skip


def json_call(call: Call, key: str = "arguments") -> str:
    return f'{{"name": {json.dumps(call[0])}, "{key}": {call[1]}}}'


def written(tool_format: ToolFormat, written_calls: list[Call]) -> str:
    """The calls as a model of that kind writes them."""
    if tool_format is HERMES:
        return "\n".join(f"<tool_call>\n{json_call(call)}\n</tool_call>" for call in written_calls)
    if tool_format is LLAMA3:
        return "; ".join(json_call(call, "parameters") for call in written_calls)
    if tool_format is MISTRAL:
        return "[TOOL_CALLS] [" + ", ".join(map(json_call, written_calls)) + "]"
    if tool_format is MISTRAL_ARGS:
        return "".join(f"[TOOL_CALLS]{name}[ARGS]{text}" for name, text in written_calls)
    return '{"tool_calls": [' + ", ".join(map(json_call, written_calls)) + "]}"


def parser(tool_format: ToolFormat, *, is_forced: bool = False) -> ToolCallParser:
    """With ids that are the same each time."""
    numbers = itertools.count()
    return ToolCallParser(tool_format.frame, lambda: f"id{next(numbers)}", is_forced=is_forced)


def parse(tool_format: ToolFormat, *pieces: str, is_forced: bool = False) -> WholeAnswer:
    answer, reader = WholeAnswer(), parser(tool_format, is_forced=is_forced)
    for piece in pieces:
        answer.add(reader.push(piece))
    answer.add(reader.finish())
    return answer


def summary(answer: WholeAnswer) -> tuple[str, list[Call]]:
    return answer.text, [(call.name, call.arguments) for call in answer.calls]
