"""Grammars of forced calls, against llguidance itself: they take what the model should write and nothing else."""

import pytest
from server.tools.test_parser import parse, summary, written

from octavo.server.schemas import Function
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.grammar import ForcedCalls, whole_grammar
from octavo.server.tools.registry import FORMATS

llguidance = pytest.importorskip("llguidance")

FUNCTIONS = [
    Function(
        name="find",
        description='say "} x"',
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string", "description": 'braces } { and "quotes" 日本'}},
            "required": ["text"],
            "additionalProperties": False,
        },
    ),
    Function(name="now"),
]
FIND, NOW = ("find", '{"text": "a } \\" 👋🏽"}'), ("now", '{"zone": 5}')


def grammar(tool_format: ToolFormat, is_parallel: bool = True, **options: bool) -> str:
    forced = ForcedCalls(functions=FUNCTIONS, is_parallel=is_parallel)
    return whole_grammar(tool_format.grammar_rules(forced), **options)


def accepts(text: str, grammar_text: str) -> bool:
    """Whether `text` is a whole answer."""
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), llguidance.LLMatcher.grammar_from_lark(grammar_text))
    assert not matcher.get_error()
    tokens = list(text.encode())
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_calls_are_accepted_and_nothing_else(tool_format: ToolFormat) -> None:
    text = grammar(tool_format)
    for calls in ([FIND], [NOW], [FIND, NOW, FIND]):
        answer = written(tool_format, calls)
        assert accepts(answer, text), answer
        assert summary(parse(tool_format, answer)) == ("", calls)
    for calls in ([("other", "{}")], [("find", "{}")], [("find", '{"text": 1}')], [("now", "[]")]):
        assert not accepts(written(tool_format, calls), text), calls
    assert not accepts("", text)
    assert not accepts("Hello", text)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_one_call_where_calls_are_not_parallel(tool_format: ToolFormat) -> None:
    text = grammar(tool_format, is_parallel=False)
    assert accepts(written(tool_format, [FIND]), text)
    assert not accepts(written(tool_format, [FIND, NOW]), text)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_open_reasoning_ends_before_the_calls(tool_format: ToolFormat) -> None:
    text = grammar(tool_format, is_reasoning_open=True)
    call = written(tool_format, [NOW])
    assert accepts(f"Hm, <b> 日本.\n</think>\n\n{call}", text)
    assert not accepts(call, text)
    assert not accepts(f"Hm.</think> Hello {call}", text)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_markers_that_are_special_tokens_are_named_by_id(tool_format: ToolFormat) -> None:
    ids = {marker: 256 + index for index, marker in enumerate(tool_format.markers)}
    forced = ForcedCalls(functions=FUNCTIONS, is_parallel=True, special_token_ids=ids)
    text = whole_grammar(tool_format.grammar_rules(forced))
    assert not llguidance.LLMatcher.validate_grammar(
        llguidance.LLMatcher.grammar_from_lark(text), llguidance.LLTokenizer("byte")
    )
    written_ids = [token_id for token_id in ids.values() if f"<[{token_id}]>" in text]
    assert bool(written_ids) == (tool_format.name not in ("llama3", "json"))


def test_keywords_that_cannot_be_enforced_fail_where_the_function_is_strict() -> None:
    parameters = {"type": "object", "if": {"required": ["x"]}}
    for strict, is_sound in ((False, True), (True, False)):
        forced = ForcedCalls(functions=[Function(name="f", parameters=parameters, strict=strict)], is_parallel=False)
        text = whole_grammar(FORMATS[0].grammar_rules(forced))
        error = llguidance.LLMatcher.validate_grammar(llguidance.LLMatcher.grammar_from_lark(text))
        assert (not error) is is_sound
