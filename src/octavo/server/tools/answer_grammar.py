"""Grammars of whole answers: calls and nothing else, or text up to where the model begins a call.

    forced   calls
    free     (text marker calls)* text, or where calls are not parallel: text marker calls | text
    bare     calls | text marker calls | text, for formats whose calls begin an answer without a marker

Before each, reasoning: where the prompt has opened it, what is left of it. A text never holds what the parser of
calls would take for one, so nothing that is called escapes the grammar.
"""

from octavo.server.reasoning import CLOSING, OPENING
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.frame import Frame
from octavo.server.tools.grammar import CallRules, literal

_SHARED = rf"""ANY: /(?s:.*)/
BLANK: /[\s\x1c-\x1f]*/
THOUGHT: ANY & ~(ANY {literal(CLOSING)} ANY)"""
"""BLANK is what Python takes for white space."""


def forced_answer(tool_format: ToolFormat, rules: CallRules, *, is_reasoning_open: bool) -> str:
    """The grammar of an answer that has to call."""
    lines = ["start: reasoning BLANK answer" if is_reasoning_open else "start: answer"]
    if tool_format.frame.has_unmarked_calls:
        lines.append("answer: calls")
    else:
        assert tool_format.frame.marker is not None
        lines.append(f"answer: {_forced_run(tool_format, rules)}")
        lines.append(f"framed: {rules.marker(tool_format.frame.marker)} calls")
    return "\n".join([*lines, _SHARED, _reasoning(rules), tool_format.write_calls(rules), ""])


def free_answer(tool_format: ToolFormat, rules: CallRules, *, has_reasoning: bool, is_reasoning_open: bool) -> str:
    """The grammar of an answer that may call. Reasoning that does not end is an answer too."""
    if is_reasoning_open:
        start = "reasoning answer | THOUGHT"
    elif has_reasoning:
        start = "answer | opening reasoning answer | opening THOUGHT"
    else:
        start = "answer"
    lines = [
        f"start: {start}",
        f"answer: {_free_run(tool_format.frame, rules)}",
        f"TEXT: {_text(tool_format.frame, has_reasoning=has_reasoning)}",
        f"OPENING: BLANK {literal(OPENING)}",
        f"opening: {f'BLANK {rules.marker(OPENING)}' if OPENING in rules.special_token_ids else 'OPENING'}",
    ]
    if tool_format.frame.marker is not None:
        lines.append(_up_to("framed_opening", "TEXT", tool_format.frame.marker, rules))
        lines.append("framed: framed_opening calls")
    return "\n".join([*lines, _SHARED, _reasoning(rules), tool_format.write_calls(rules), ""])


def _forced_run(tool_format: ToolFormat, rules: CallRules) -> str:
    if tool_format.separator is None:
        return "framed"
    return rules.repeated("framed", literal(tool_format.separator))


def _free_run(frame: Frame, rules: CallRules) -> str:
    if frame.has_unmarked_calls:
        return "BLANK calls | TEXT" if frame.marker is None else "BLANK calls | framed | TEXT"
    return "framed* TEXT" if rules.is_parallel else "framed | TEXT"


def _text(frame: Frame, *, has_reasoning: bool) -> str:
    """Any text without the marker, that does not begin as reasoning or as a call."""
    beginnings = [literal(OPENING)] if has_reasoning else []
    beginnings += [literal("{")] if frame.has_unmarked_calls else []
    parts = ["ANY"]
    if beginnings:
        parts.append(f"~(BLANK ({' | '.join(beginnings)}) ANY)")
    if frame.marker is not None:
        parts.append(f"~(ANY {literal(frame.marker)} ANY)")
    return " & ".join(parts)


def _reasoning(rules: CallRules) -> str:
    return _up_to("reasoning", "THOUGHT", CLOSING, rules)


def _up_to(rule: str, text: str, marker: str, rules: CallRules) -> str:
    """`rule` ends with the first `marker`; a special token is not text, so no text can go beyond it."""
    is_lazy = "" if marker in rules.special_token_ids else "[lazy]"
    return f"{rule}{is_lazy}: {text} {rules.marker(marker)}"
