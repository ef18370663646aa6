"""Mistral: `[TOOL_CALLS][{"name": …, "arguments": …}, …]`, since 2025 `[TOOL_CALLS]name[ARGS]{…}` once a call."""

import secrets
import string

from octavo.server.tools.calls import MarkedCall
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules, json_call, literal

_TOOL_CALLS, _CALL_ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_CALL_ID_CHARS = string.ascii_letters + string.digits


def _new_call_id() -> str:
    """Nine letters and digits: the chat templates refuse any other id when the call is sent back."""
    return "".join(secrets.choice(_CALL_ID_CHARS) for _ in range(9))


def _matches_list(template_source: str) -> bool:
    return _TOOL_CALLS in template_source and _ARGS not in template_source


def _matches_marked(template_source: str) -> bool:
    return _TOOL_CALLS in template_source and _ARGS in template_source


def _write_list(rules: CallRules) -> str:
    calls = rules.repeated("call", literal(", "))
    return f"calls: {literal(' ')}? {literal('[')} {calls} {literal(']')}\n{rules.call_rules(json_call)}"


def _write_marked(rules: CallRules) -> str:
    def write_call(name: str, arguments: str) -> str:
        return f"{literal(name)} {rules.marker(_ARGS)} {arguments}"

    return f"calls: call\n{rules.call_rules(write_call)}"


MISTRAL = ToolFormat(
    name="mistral",
    matches=_matches_list,
    frame=Frame(opening=(_TOOL_CALLS, "["), closing=("]",), separator=","),
    write_calls=_write_list,
    markers=(_TOOL_CALLS,),
    new_call_id=_new_call_id,
)
MISTRAL_ARGS = ToolFormat(
    name="mistral_args",
    matches=_matches_marked,
    frame=Frame(opening=(_TOOL_CALLS,), make_call=MarkedCall),
    write_calls=_write_marked,
    separator="",
    markers=(_TOOL_CALLS, _CALL_ID, _ARGS),
    new_call_id=_new_call_id,
)
