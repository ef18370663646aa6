"""Hermes and Qwen: `<tool_call>\\n{"name": …, "arguments": …}\\n</tool_call>`, once a call."""

from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import ForcedCalls, json_call, literal

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_OTHER_BODY = "<function="
"""Qwen3-Coder writes XML between the same markers."""


def _matches(template_source: str) -> bool:
    return _OPENING in template_source and _OTHER_BODY not in template_source


def _grammar_rules(forced: ForcedCalls) -> str:
    newline = literal("\n")
    opening, closing = forced.marker(_OPENING), forced.marker(_CLOSING)
    return "\n".join(
        (
            f"calls: {forced.repeated('framed', newline)}",
            f"framed: {opening} {newline} call {newline} {closing}",
            forced.call_rules(json_call),
        )
    )


HERMES = ToolFormat(
    name="hermes",
    matches=_matches,
    frame=Frame(opening=(_OPENING,), closing=(_CLOSING,)),
    grammar_rules=_grammar_rules,
    markers=(_OPENING, _CLOSING),
)
