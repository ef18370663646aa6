"""Grammars of answers that call, against llguidance itself: they take what the model should write and nothing else."""

import json
from typing import Any

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.tools.written_calls import MANY, json_call, parse, plain_texts, rubble, summary, written

from octavo.server.answer_events import WholeAnswer
from octavo.server.answer_parser import AnswerParser
from octavo.server.reasoning import ReasoningParser
from octavo.server.schemas import Function
from octavo.server.tools.answer_grammar import forced_answer, free_answer
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.grammar import CallRules
from octavo.server.tools.hermes import HERMES
from octavo.server.tools.llama3 import LLAMA3
from octavo.server.tools.registry import FORMATS

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
        strict=True,
    ),
    Function(name="now"),
]
FIND, NOW = ("find", '{"text": "a } \\" 👋🏽"}'), ("now", '{"zone": 5}')
WRONG = [("other", "{}"), ("find", "{}"), ("find", '{"text": 1}'), ("find", '{"text": "", "x": 1}'), ("now", "[]")]
each_format = pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)


def forced(tool_format: ToolFormat, is_parallel: bool = True, is_reasoning_open: bool = False) -> llguidance.LLMatcher:
    rules = CallRules(functions=FUNCTIONS, is_parallel=is_parallel, special_token_ids={})
    return compiled(forced_answer(tool_format, rules, is_reasoning_open=is_reasoning_open))


def free(
    tool_format: ToolFormat, is_parallel: bool = True, has_reasoning: bool = False, is_reasoning_open: bool = False
) -> llguidance.LLMatcher:
    rules = CallRules(functions=FUNCTIONS, is_parallel=is_parallel, special_token_ids={})
    return compiled(free_answer(tool_format, rules, has_reasoning=has_reasoning, is_reasoning_open=is_reasoning_open))


def compiled(grammar: str, words: Any = "byte") -> llguidance.LLMatcher:
    matcher = llguidance.LLMatcher
    made = matcher(llguidance.LLTokenizer(words), matcher.grammar_from_lark(grammar))
    assert not made.get_error()
    return made


def takes(matcher: llguidance.LLMatcher, text: str) -> bool:
    """Whether the answer may go on with `text`; goes on with it if so."""
    tokens = list(text.encode())
    if matcher.validate_tokens(tokens) < len(tokens):
        return False
    assert matcher.consume_tokens(tokens)
    return True


def accepts(text: str, beginning: llguidance.LLMatcher) -> bool:
    """Whether `text` is a whole answer."""
    matcher = beginning.deep_copy()
    return takes(matcher, text) and matcher.is_accepting()


def answered(tool_format: ToolFormat, text: str, *, is_reasoning_open: bool) -> WholeAnswer:
    """As a client of a model that reasons gets it."""
    parser = AnswerParser(
        reasoning=ReasoningParser(is_open=is_reasoning_open), tools=tool_format.parser(is_forced=False)
    )
    whole = WholeAnswer()
    whole.add(parser.push(text) + parser.finish())
    return whole


@each_format
def test_forced_calls_are_accepted_and_nothing_else(tool_format: ToolFormat) -> None:
    grammar = forced(tool_format)
    for calls in ([FIND], [NOW], [FIND, NOW, FIND]):
        answer = written(tool_format, calls)
        assert accepts(answer, grammar), answer
        assert summary(parse(tool_format, answer)) == ("", calls)
    for call in WRONG:
        assert not accepts(written(tool_format, [call]), grammar), call
    assert not accepts("", grammar)
    assert not accepts("Hello", grammar)


@each_format
@pytest.mark.parametrize("make_grammar", [forced, free])
def test_one_call_where_calls_are_not_parallel(tool_format: ToolFormat, make_grammar: Any) -> None:
    grammar = make_grammar(tool_format, is_parallel=False)
    assert accepts(written(tool_format, [FIND]), grammar)
    assert not accepts(written(tool_format, [FIND, NOW]), grammar)
    after = grammar.deep_copy()
    assert takes(after, written(tool_format, [FIND])) and after.is_stopped()


@each_format
def test_open_reasoning_ends_before_forced_calls(tool_format: ToolFormat) -> None:
    grammar = forced(tool_format, is_reasoning_open=True)
    call = written(tool_format, [NOW])
    assert accepts(f"Hm, <b> 日本.\n</think>\n\n{call}", grammar)
    assert not accepts(call, grammar)
    assert not accepts(f"Hm.</think> Hello {call}", grammar)


@each_format
@MANY
@given(text=plain_texts, calls=st.lists(st.sampled_from((FIND, NOW)), max_size=3), wrong=st.sampled_from(WRONG))
def test_a_free_answer_is_text_then_calls(
    tool_format: ToolFormat, text: str, calls: list[tuple[str, str]], wrong: tuple[str, str]
) -> None:
    grammar = free(tool_format)
    before = "" if tool_format.frame.has_unmarked_calls else text
    assert accepts(text, grammar)
    if calls:
        answer = before + written(tool_format, calls)
        assert accepts(answer, grammar), answer
        assert summary(parse(tool_format, answer))[1] == calls
    assert not accepts(before + written(tool_format, [*calls, wrong]), grammar)


@each_format
@pytest.mark.parametrize("is_reasoning_open", [False, True])
@MANY
@given(
    parts=st.lists(
        rubble
        | st.sampled_from(("<think>", "</think>", "[TOOL_CALLS] [", "\n<tool_call>\n", "\x1c", "; ", "find[ARGS]"))
        | st.sampled_from([json_call(call, key) for call in (FIND, NOW, *WRONG) for key in ("arguments", "parameters")])
        | st.sampled_from([written(each, [call]) for each in FORMATS for call in (FIND, NOW)]),
        max_size=12,
    )
)
def test_whatever_is_accepted_calls_as_it_should(
    tool_format: ToolFormat, is_reasoning_open: bool, parts: list[str]
) -> None:
    """A model that tries everything, and writes what the grammar lets it write."""
    grammar = free(tool_format, has_reasoning=True, is_reasoning_open=is_reasoning_open)
    text = "".join(part for part in parts if takes(grammar, part))
    for call in answered(tool_format, text, is_reasoning_open=is_reasoning_open).calls:
        assert call.name in ("find", "now"), text
        if grammar.is_accepting():
            arguments = json.loads(call.arguments)
            assert isinstance(arguments, dict)
            assert call.name == "now" or (arguments.keys() == {"text"} and isinstance(arguments["text"], str)), text


@each_format
def test_a_free_answer_may_reason_first(tool_format: ToolFormat) -> None:
    call, wrong = written(tool_format, [FIND]), written(tool_format, [WRONG[0]])
    opened, closed = (free(tool_format, has_reasoning=True, is_reasoning_open=is_open) for is_open in (True, False))
    for grammar, opening in ((opened, ""), (closed, "<think>"), (closed, "\n<think>\n")):
        for thought in ("Hm, 日本.", f"Shall I write {wrong}?"):
            assert accepts(f"{opening}{thought}", grammar)
            assert accepts(f"{opening}{thought}</think>\n\n{call}", grammar)
            assert accepts(f"{opening}{thought}</think>\n\nHello </think>", grammar)
            assert not accepts(f"{opening}{thought}</think>\n\n{wrong}", grammar)
    assert accepts(call, closed) and accepts("Hello", closed)
    assert not accepts(wrong, closed)


def test_text_goes_on_between_marked_calls() -> None:
    call = written(HERMES, [FIND])
    assert accepts(f"First {call}\n then {call} and <tool", free(HERMES))
    assert not accepts(f"First {call}\n then <tool_call> and", free(HERMES))


def test_llama_calls_behind_its_tag_too() -> None:
    call = written(LLAMA3, [FIND, NOW])
    assert accepts(f"So: <|python_tag|>{call}", free(LLAMA3))
    assert not accepts("So: <|python_tag|>print(1)", free(LLAMA3))
    assert not accepts(f"{call}; {{}}", free(LLAMA3))
    assert accepts("So: {} it is", free(LLAMA3))
    assert not accepts("\n{} it is", free(LLAMA3))


class _Words:
    """Bytes, then `<tool_call>`, `</tool_call>`, `<think>`, `</think>` and the end as special tokens."""

    is_tokenizer_wrapper = True
    special_token_ids = tuple(range(256, 261))
    tokens = tuple(bytes([byte]) for byte in range(256))
    tokens = (*tokens, b"<tool_call>", b"</tool_call>", b"<think>", b"</think>", b"<end>")
    bos_token_id, eos_token_id = None, 260

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("is_reasoning_open", [False, True])
def test_markers_that_are_special_tokens(is_reasoning_open: bool) -> None:
    opening, closing, think, end_think = ([token_id] for token_id in range(256, 260))
    ids = {"<tool_call>": 256, "</tool_call>": 257, "<think>": 258, "</think>": 259}
    rules = CallRules(functions=FUNCTIONS, is_parallel=True, special_token_ids=ids)
    grammar = free_answer(HERMES, rules, has_reasoning=True, is_reasoning_open=is_reasoning_open)
    beginning = compiled(grammar, _Words())

    def accepted(*parts: str | list[int]) -> bool:
        first: list[int] = [] if is_reasoning_open else think
        tokens = first + [token for part in parts for token in (part if isinstance(part, list) else part.encode())]
        going = beginning.deep_copy()
        return bool(going.try_consume_tokens(tokens) == len(tokens) and going.is_accepting())

    call = f"\n{json_call(FIND)}\n"
    assert accepted("Hm <tool_call>", end_think, "\n\nSo", opening, call, closing, opening, call, closing, "\n")
    assert not accepted("Hm</think>") and not accepted("Hm</think>", end_think)
    assert accepted("Hm") and accepted("Hm", end_think, "Hello")
    assert not accepted("Hm", end_think, f"<tool_call>{call}")
    assert not accepted("Hm", end_think, opening, call, closing, f"\n<tool_call>{call}")
    assert not accepted("Hm", opening, call, closing)  # what is special is not thought
    assert not accepted("Hm", end_think, opening, f"\n{json_call(WRONG[0])}\n", closing)


def test_open_reasoning_ends_with_its_special_token() -> None:
    rules = CallRules(functions=FUNCTIONS, is_parallel=True, special_token_ids={"</think>": 259})
    grammar = compiled(forced_answer(HERMES, rules, is_reasoning_open=True), _Words())
    call = list(written(HERMES, [NOW]).encode())
    assert grammar.validate_tokens(list(b"Hm</think>")) == len(b"Hm</think")  # as text it would be taken for the end
    assert grammar.consume_tokens([*b"Hm", 259, *b"\n", *call]) and grammar.is_accepting()
