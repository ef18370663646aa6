"""Llama 3: an answer that is `{"name": …, "parameters": …}`, or goes on so after «<|python_tag|>»."""

from functools import partial

from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules, json_call, literal

_PYTHON_TAG = "<|python_tag|>"
_INSTRUCTION = '{"name": function name, "parameters":'
"""What the templates of Llama 3.1 and 3.2 tell the model to write."""


def _matches(template_source: str) -> bool:
    return _PYTHON_TAG in template_source or _INSTRUCTION in template_source


def _write_calls(rules: CallRules) -> str:
    calls = rules.repeated("call", literal("; "))
    return f"calls: {calls}\n{rules.call_rules(partial(json_call, key='parameters'))}"


LLAMA3 = ToolFormat(
    name="llama3",
    matches=_matches,
    frame=Frame(opening=(_PYTHON_TAG,), separator=";", is_bare_at_start=True),
    write_calls=_write_calls,
    markers=(_PYTHON_TAG,),
)
