"""Mistral: `[TOOL_CALLS][{"name": …, "arguments": …}, …]`, since 2025 `[TOOL_CALLS]name[ARGS]{…}` once a call."""

import secrets
import string

from octavo.server.tools.calls import MarkedCall
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import ForcedCalls, json_call, literal

_TOOL_CALLS, _CALL_ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_CALL_ID_CHARS = string.ascii_letters + string.digits


def _new_call_id() -> str:
    """Nine letters and digits: the chat templates refuse any other id when the call is sent back."""
    return "".join(secrets.choice(_CALL_ID_CHARS) for _ in range(9))


def _matches_list(template_source: str) -> bool:
    return _TOOL_CALLS in template_source and _ARGS not in template_source


def _matches_marked(template_source: str) -> bool:
    return _TOOL_CALLS in template_source and _ARGS in template_source


def _list_rules(forced: ForcedCalls) -> str:
    opening = f"{forced.marker(_TOOL_CALLS)} {literal(' ')}? {literal('[')}"
    calls = forced.repeated("call", literal(", "))
    return f"calls: {opening} {calls} {literal(']')}\n{forced.call_rules(json_call)}"


def _marked_rules(forced: ForcedCalls) -> str:
    def write_call(name: str, arguments: str) -> str:
        return f"{forced.marker(_TOOL_CALLS)} {literal(name)} {forced.marker(_ARGS)} {arguments}"

    calls = "call+" if forced.is_parallel else "call"
    return f"calls: {calls}\n{forced.call_rules(write_call)}"


MISTRAL = ToolFormat(
    name="mistral",
    matches=_matches_list,
    frame=Frame(opening=(_TOOL_CALLS, "["), closing=("]",), separator=","),
    grammar_rules=_list_rules,
    markers=(_TOOL_CALLS,),
    new_call_id=_new_call_id,
)
MISTRAL_ARGS = ToolFormat(
    name="mistral_args",
    matches=_matches_marked,
    frame=Frame(opening=(_TOOL_CALLS,), make_call=MarkedCall),
    grammar_rules=_marked_rules,
    markers=(_TOOL_CALLS, _CALL_ID, _ARGS),
    new_call_id=_new_call_id,
)
