"""Hermes and Qwen: `<tool_call>\\n{"name": …, "arguments": …}\\n</tool_call>`, once a call."""

from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules, json_call, literal

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_OTHER_BODY = "<function="
"""Qwen3-Coder writes XML between the same markers."""


def _matches(template_source: str) -> bool:
    return _OPENING in template_source and _OTHER_BODY not in template_source


def _write_calls(rules: CallRules) -> str:
    newline = literal("\n")
    return f"calls: {newline} call {newline} {rules.marker(_CLOSING)}\n{rules.call_rules(json_call)}"


HERMES = ToolFormat(
    name="hermes",
    matches=_matches,
    frame=Frame(opening=(_OPENING,), closing=(_CLOSING,)),
    write_calls=_write_calls,
    separator="\n",
    markers=(_OPENING, _CLOSING),
)
