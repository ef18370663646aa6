"""How a model's answers are read, and which special tokens must be seen for it."""

from typing import Any

import pytest
from server import tool_templates
from server.fake_model import ByteTokenizer

from octavo.config.server_config import ServerConfig
from octavo.server.answer_format import AnswerFormat, read_answer_format
from octavo.server.schemas import Function
from octavo.server.tools.tool_use import ToolUse

USE = ToolUse(functions=[Function(name="f")])


class MarkerTokenizer(ByteTokenizer):
    """Knows markers as tokens, special or not."""

    def __init__(self, special: dict[str, int], plain: dict[str, int]) -> None:
        self.special_token_ids = frozenset(special.values())
        self._ids = special | plain

    def token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)


def answer_format(template: str, special: dict[str, int], plain: dict[str, int], **options: str) -> AnswerFormat:
    tokenizer: Any = MarkerTokenizer(special, plain)
    return read_answer_format(ServerConfig(**options), tokenizer, template)


def test_markers_that_detokenising_would_skip_are_shown() -> None:
    mistral = answer_format(tool_templates.MISTRAL, {"[TOOL_CALLS]": 9, "</s>": 2}, {})
    assert mistral.shown_special_token_ids(USE) == (9,)
    assert mistral.shown_special_token_ids(None) == ()
    qwen = answer_format(tool_templates.QWEN3, {"<|im_end|>": 2}, {"<tool_call>": 5, "<think>": 6, "</think>": 7})
    assert qwen.shown_special_token_ids(USE) == ()
    special = answer_format(tool_templates.QWEN3, {"<tool_call>": 5, "<think>": 6, "</think>": 7}, {})
    assert special.shown_special_token_ids(USE) == (6, 7, 5)
    assert special.shown_special_token_ids(None) == (6, 7)


@pytest.mark.parametrize(
    ("template", "plain", "option", "has_reasoning"),
    [
        (tool_templates.PLAIN, {}, "auto", False),
        (tool_templates.PLAIN, {"</think>": 7}, "auto", True),
        (tool_templates.QWEN3, {}, "auto", True),
        (tool_templates.R1, {}, "auto", True),
        (tool_templates.QWEN3, {"</think>": 7}, "none", False),
        (tool_templates.PLAIN, {}, "think", True),
    ],
)
def test_reasoning_is_looked_for(template: str, plain: dict[str, int], option: str, has_reasoning: bool) -> None:
    assert answer_format(template, {}, plain, reasoning_parser=option).has_reasoning is has_reasoning


def test_grammar_is_for_forced_calls_and_strict_functions() -> None:
    read = answer_format(tool_templates.MISTRAL, {"[TOOL_CALLS]": 9}, {})
    assert read.call_grammar(None, is_reasoning_open=False) is None
    assert read.call_grammar(USE, is_reasoning_open=False) is None
    forced = ToolUse(functions=USE.functions, forced=USE.functions)
    text = read.call_grammar(forced, is_reasoning_open=False)
    assert text is not None and text.startswith("start: answer\nanswer: framed\nframed: <[9]>")
    text = read.call_grammar(forced, is_reasoning_open=True)
    assert text is not None and text.startswith("start: reasoning")
    strict = ToolUse(functions=[Function(name="f", strict=True)])
    text = read.call_grammar(strict, is_reasoning_open=False)
    assert text is not None and "framed_opening: TEXT <[9]>" in text and "opening reasoning" not in text
    thinks = answer_format(tool_templates.QWEN3, {}, {"<think>": 1})
    text = thinks.call_grammar(strict, is_reasoning_open=False)
    assert text is not None and "opening reasoning answer" in text
    text = thinks.call_grammar(strict, is_reasoning_open=True)
    assert text is not None and text.startswith("start: reasoning answer")
