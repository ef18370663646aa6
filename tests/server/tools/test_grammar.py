"""What the formats' grammars are made from: markers, and the schemas that arguments are held to."""

from functools import partial
from typing import Any

import llguidance
import pytest

from octavo.server.schemas import Function
from octavo.server.tools.answer_grammar import forced_answer, free_answer
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.grammar import CallRules
from octavo.server.tools.registry import FORMATS

MAKE_ANSWER = (
    partial(forced_answer, is_reasoning_open=False),
    partial(free_answer, has_reasoning=False, is_reasoning_open=False),
)


def error_of(grammar: str) -> str:
    matcher = llguidance.LLMatcher
    return matcher.validate_grammar(matcher.grammar_from_lark(grammar), llguidance.LLTokenizer("byte"))


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("make_answer", MAKE_ANSWER)
def test_markers_that_are_special_tokens_are_named_by_id(tool_format: ToolFormat, make_answer: Any) -> None:
    ids = {marker: 256 + index for index, marker in enumerate(tool_format.markers)}
    rules = CallRules(functions=[Function(name="f")], is_parallel=True, special_token_ids=ids)
    text = make_answer(tool_format, rules)
    assert not error_of(text)
    written_ids = [token_id for token_id in ids.values() if f"<[{token_id}]>" in text]
    is_bare = tool_format.name == "json" or (tool_format.name == "llama3" and make_answer is MAKE_ANSWER[0])
    assert bool(written_ids) is not is_bare


@pytest.mark.parametrize("make_answer", MAKE_ANSWER)
def test_keywords_that_cannot_be_enforced_fail_where_the_function_is_strict(make_answer: Any) -> None:
    parameters = {"type": "object", "if": {"required": ["x"]}}
    for strict, is_sound in ((False, True), (True, False)):
        function = Function(name="f", parameters=parameters, strict=strict)
        rules = CallRules(functions=[function], is_parallel=False, special_token_ids={})
        assert (not error_of(make_answer(FORMATS[0], rules))) is is_sound
