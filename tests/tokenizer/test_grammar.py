"""Which structured outputs can be followed, and what their grammars take."""

import itertools
import json
import random
import re
import sys
import threading
import time
from typing import Any

import pytest
import torch
from server.fake_model import EOS, ByteTokenizer

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import MAX_GRAMMAR_CHARS, StructuredOutputs
from octavo.sampling import GrammarState
from octavo.tokenizer import grammar
from octavo.tokenizer.grammar import (
    FREE_WORK_S,
    WORK_PER_TOKEN_S,
    Grammars,
    RequestGrammar,
    bad_grammar,
    check_grammar,
    grammar_text,
)

VOCAB_SIZE = 300
PROPERTIES = {"x": {"type": "string"}, "y": {"type": "array", "items": {"type": "number"}}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(ByteTokenizer)  # type: ignore[arg-type]


NUMBERS = itertools.count()


def compiled(grammars: Grammars, outputs: StructuredOutputs) -> RequestGrammar:
    """As a request of its own gets it."""
    request_id = str(next(NUMBERS))
    grammars.prepare(request_id, outputs).result()
    try:
        return grammars.of(request_id)
    finally:
        grammars.release(request_id)


def takes(grammars: Grammars, text: str, **outputs: Any) -> bool:
    """Whether the text is a sentence of the grammar."""
    matcher = compiled(grammars, StructuredOutputs(**outputs)).matcher()
    return matcher.consume_tokens(list(text.encode())) and matcher.consume_token(EOS)


@pytest.mark.parametrize(
    ("outputs", "sentences", "others"),
    [
        ({"json": PERSON}, ['{"name":"Ann","age":3}', '{"name": "é日\\n", "age": -1}'], ["{}", '{"name":"Ann"}', "x"]),
        (
            {"json": PERSON},
            [json.dumps({"name": "a", "age": 1}, indent=2)],
            ['{"name":"a","age":1.5}', '{"name":"a","age":1} '],
        ),
        ({"json": json.dumps(PERSON)}, ['{"name":"Ann","age":3}'], ["[]"]),
        ({"json": {"type": "object", "minProperties": 2}}, ['{"a":1,"b":2}'], ['{"a":1}']),
        ({"json": {"enum": ["a", 1, None]}}, ['"a"', "1", "null"], ["a", "2"]),
        ({"json_object": True}, ["{}", '{"a": [1, {"b": null}]}'], ["[]", "1", "{"]),
        ({"regex": r"[0-9]{3}-\d+"}, ["123-4", "123-456"], ["12-3", "123-", "x123-4"]),
        ({"choice": ["yes", "no", "a.b (c)|[d]"]}, ["yes", "no", "a.b (c)|[d]"], ["maybe", "axb (c)|[d]", "", "yesno"]),
        ({"grammar": 'start: "a" | "b" start'}, ["a", "bba"], ["b", "ab"]),
        ({"grammar": 'root ::= "a" | "b" root'}, ["a", "bba"], ["b", "ab"]),
    ],
)
def test_sentences(grammars: Grammars, outputs: dict[str, Any], sentences: list[str], others: list[str]) -> None:
    for text in sentences:
        assert takes(grammars, text, **outputs), text
    for text in others:
        assert not takes(grammars, text, **outputs), text


ARABIC = "\N{ARABIC-INDIC DIGIT THREE}"


@pytest.mark.parametrize(
    ("regex", "sentences", "others"),
    [
        (r"\d{3}-\d{4}", ["123-4567"], [f"12{ARABIC}-4567"]),
        (r"[\d.]+-[^\d]\D", ["1.2-ab", f"1-{ARABIC}é"], [f"{ARABIC}-ab", "1-2a"]),
        (r"\w[\w-]\W[\W]", ["a_ é", "9-éé"], ["éa  ", "aé  "]),
        (r"[^\W\d]+", ["ab_"], ["a1", "é"]),
        (r"\\d\[\d-\w", [r"\d[1-a"], [rf"\d[{ARABIC}-a", r"\1[1-a"]),
        (r"\s", [" ", "\N{NO-BREAK SPACE}"], ["a"]),
    ],
)
def test_classes_of_a_regex_are_those_of_a_schemas_pattern(
    grammars: Grammars, regex: str, sentences: list[str], others: list[str]
) -> None:
    schema = {"type": "string", "pattern": f"^(?:{regex})$"}
    for texts, is_taken in ((sentences, True), (others, False)):
        for text in texts:
            assert takes(grammars, text, regex=regex) is is_taken, text
            assert takes(grammars, json.dumps(text, ensure_ascii=False), json=schema) is is_taken, text


@pytest.mark.parametrize("regex", [r"[+-\d]", r"[-+\d]", r"[+\d-]", r"[+\-\d]", r"[[+]-\d]"])
def test_a_class_is_no_end_of_a_range(grammars: Grammars, regex: str) -> None:
    assert [text for text in "+,-5[]a\\" + ARABIC if takes(grammars, text, regex=regex)] == ["+", "-", "5"]


def test_a_class_without_another(grammars: Grammars) -> None:
    assert [text for text in "a5é-" + ARABIC if takes(grammars, text, regex=r"[\w--\d]")] == ["a"]


def test_no_class_matches_what_is_no_utf_8(grammars: Grammars) -> None:
    for regex in (r"\D", r"\W", r"[^\d]", r"[^\w]"):
        assert not compiled(grammars, StructuredOutputs(regex=regex)).matcher().consume_token(0xFF)


@pytest.mark.parametrize("regex", ["(", "a\n(", "x/(", r"\d("])
def test_a_regex_at_fault_is_told_without_the_grammar_made_of_it(regex: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_grammar(StructuredOutputs(regex=regex))
    assert caught.value.message == "structured_outputs cannot be followed: unclosed group; change or simplify it"


def test_blanks_in_json_are_bounded(grammars: Grammars) -> None:
    assert takes(grammars, '{"name": "a",\n' + " " * 64 + '"age":1}', json=PERSON)
    assert not takes(grammars, '{"name": "a",\n\n"age":1}', json=PERSON)
    assert not takes(grammars, '{"name": "a",\n' + " " * 65 + '"age":1}', json=PERSON)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({}, "has none; give exactly one of json,"),
        ({"json": {}, "regex": "a"}, "has json and regex"),
        ({"json_object": False}, "json_object must be true"),
        ({"json": 5}, "has type int"),
        ({"json": {"a": object()}}, "is not JSON"),
        ({"choice": []}, "list of 1"),
        ({"choice": "yes"}, "list of 1"),
        ({"choice": ["a", ""]}, "empty string"),
        ({"choice": [1]}, "not Unicode"),
        ({"choice": ["a"] * 1025}, "list of 1"),
        ({"regex": "\ud800"}, "not Unicode"),
        ({"regex": "a" * (MAX_GRAMMAR_CHARS + 1)}, "at most"),
        ({"json": {"enum": ["a" * MAX_GRAMMAR_CHARS]}}, "at most"),
        ({"choice": ["a" * MAX_GRAMMAR_CHARS, "b"]}, "at most"),
        ({"regex": "("}, "unclosed group"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": r"[^\s\S]"}, "no text"),
        ({"json": "{"}, "EOF"),
        ({"json": {"$ref": "#/nowhere"}}, "does not exist"),
        ({"json": {"$ref": "http://127.0.0.1:1/schema"}}, "does not fetch"),
        ({"json": {"$ref": "file:///etc/passwd"}}, "does not fetch"),
        ({"json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}}, "no text"),
        ({"json": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json": {"type": "strng"}}, "strng"),
        ({"json": {"type": "integer", "minimum": 3, "maximum": 2}}, "minimum"),
        ({"grammar": "nonsense ( ["}, "neither Lark nor GBNF"),
        ({"grammar": "root ::= " + "(" * 5000}, "neither Lark nor GBNF"),
        ({"regex": ""}, "no text"),
        ({"grammar": "start:"}, "no text"),
        ({"grammar": "root ::= "}, "no text"),
        ({"grammar": "start: a\na[max_tokens=0]: /.*/"}, "no text"),
        ({"grammar": 'start: "a" start'}, "Too many items"),
        ({"grammar": 'root ::= "a" root'}, "Too many items"),
    ],
)
def test_what_cannot_be_followed(outputs: dict[str, Any], says: str) -> None:
    begin = time.monotonic()
    with pytest.raises(InvalidRequestError, match=re.escape(says)) as caught:
        check_grammar(StructuredOutputs(**outputs))
    assert caught.value.param == "structured_outputs"
    assert len(caught.value.message) < 1000
    assert time.monotonic() - begin < 5  # milliseconds; a busy machine may take longer


def test_a_schema_that_nests_too_deep() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(InvalidRequestError, match="nested deeper"):
        StructuredOutputs(json=schema)


@pytest.mark.parametrize("grammar", ["\n" * 100_000 + 'root ::= "a"', 'root ::= "a"' + "\n" * 100_000, " " * 100_000])
def test_blank_lines_cost_no_more_than_their_number(grammar: str) -> None:
    """Telling Lark from GBNF must not take the square of it: tens of seconds in which no thread of Python goes on."""
    begin = time.thread_time()
    if grammar.isspace():
        with pytest.raises(InvalidRequestError, match="neither Lark nor GBNF"):
            grammar_text(StructuredOutputs(grammar=grammar))
    else:
        assert grammar_text(StructuredOutputs(grammar=grammar)) == grammar_text(
            StructuredOutputs(grammar=grammar.strip())
        )
    assert time.thread_time() - begin < 2


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The expressions and grammars that were read; each off the main thread."""
    texts: list[str] = []

    def counted(outputs: StructuredOutputs) -> str:
        assert threading.current_thread() is not threading.main_thread()
        texts.append(str(outputs.regex or outputs.grammar))
        return grammar_text(outputs)

    monkeypatch.setattr(grammar, "grammar_text", counted)
    return texts


def test_the_texts_that_are_kept_are_bounded_by_their_bytes(
    readings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading GBNF takes long, so that the next request finds it read; what was compiled is nobody else's."""
    monkeypatch.setattr(grammar, "MAX_KEPT_BYTES", 10_000)
    grammars = Grammars(ByteTokenizer)  # type: ignore[arg-type]
    small = StructuredOutputs(grammar='root ::= "a"')
    first, second = (compiled(grammars, small) for _ in range(2))
    assert first is not second
    assert len(readings) == 1
    for number in range(10):
        compiled(grammars, StructuredOutputs(grammar=f'root ::= "{number}"' + " " * 2000))
    assert 4000 < sum(sys.getsizeof(text) for pair in grammars._texts.items() for text in pair) <= 10_000
    compiled(grammars, small)
    assert len(readings) == 12


def test_what_one_request_uses_up_is_its_own(grammars: Grammars) -> None:
    """Copies of a matcher share its lexer, of which this expression takes more with each token."""
    outputs = StructuredOutputs(regex="[ab]*a[ab]{25}c")
    matcher, rng = compiled(grammars, outputs).matcher(), random.Random(3)
    for _ in range(40_000):
        if not matcher.consume_token(ord(rng.choice("ab"))):
            break
    assert "too many" in matcher.get_error()
    assert compiled(grammars, outputs).matcher().consume_tokens(list(b"abba" * 25))


def test_a_long_string_may_be_bounded_and_one_that_comes_to_be_long_is_told_why(grammars: Grammars) -> None:
    """A lexer has some nine states for each character that is counted."""
    outputs = StructuredOutputs(json={"type": "string", "maxLength": 20_000})
    short, long = (compiled(grammars, outputs).matcher() for _ in range(2))
    assert short.consume_tokens(list(b'"' + b"x" * 2000 + b'"'))
    for token in b'"' + b"x" * 3000:
        long.compute_bitmask()
        if not long.consume_token(token):
            break
    assert "as by maxLength, some 2000 can be" in bad_grammar(long.get_error()).message


def test_clients_take_turns_and_what_nobody_waits_for_any_longer_is_not_compiled(readings: list[str]) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def load_tokenizer() -> ByteTokenizer:
        begun.set()
        assert may_go_on.wait(10)
        return ByteTokenizer()

    grammars = Grammars(load_tokenizer)  # type: ignore[arg-type]
    grammars.prepare("first", StructuredOutputs(regex="first"), "A")
    assert begun.wait(10)
    for number in range(3):
        grammars.prepare(f"A{number}", StructuredOutputs(regex=f"A{number}"), "A")
    other = grammars.prepare("B", StructuredOutputs(regex="B"), "B")
    last = grammars.prepare("A3", StructuredOutputs(regex="A3"), "A")
    grammars.release("A1")
    may_go_on.set()
    other.result(), last.result()
    assert readings == ["first", "B", "A0", "A2", "A3"]
    assert not grammars.of("A2").matcher().is_error()


WORDS = [
    bytes(word) for length in (1, 2, 3) for word in itertools.product(b"abcdefghijklmnopqrstuvwxyz ", repeat=length)
]


class WordTokenizer(ByteTokenizer):
    """With the 20,000 words that 4 letters make."""

    vocab_size = EOS + 1 + len(WORDS)

    def token_bytes(self, token_id: int) -> bytes:
        return WORDS[token_id - EOS - 1] if token_id > EOS else super().token_bytes(token_id)


@pytest.mark.parametrize("rule", ["s s", "s s s | s s"])
def test_a_grammar_that_says_one_thing_in_many_ways_is_soon_refused(rule: str) -> None:
    """Masks that take ever longer: what comes first, a limit or the time that they have taken, ends the answer."""
    grammars, came = Grammars(WordTokenizer), []  # type: ignore[arg-type]
    state = GrammarState(compiled(grammars, StructuredOutputs(grammar=f"start: s\ns: {rule} | /[a-z ]/")))
    with pytest.raises(InvalidRequestError, match="structured_outputs cannot be followed"):
        for _ in range(400):
            state.forbid_others(torch.zeros(WordTokenizer.vocab_size), came)
            came.append(ord("a"))


def test_what_schemas_need_is_allowed() -> None:
    grammars = Grammars(WordTokenizer)  # type: ignore[arg-type]
    wide = {"type": "object", "properties": {f"field{number}": {"type": "string"} for number in range(100)}}
    shapes = [{"type": "object", "properties": {"kind": {"const": f"k{number}"}, **PROPERTIES}} for number in range(60)]
    for schema in ({**wide, "additionalProperties": False}, {"type": "array", "items": {"anyOf": shapes}}):
        state = GrammarState(compiled(grammars, StructuredOutputs(json=schema)))
        state.forbid_others(torch.zeros(WordTokenizer.vocab_size), list(b'{"' if schema.get("properties") else b'[{"'))


def test_the_time_that_masks_take_is_the_requests_own(grammars: Grammars) -> None:
    outputs = StructuredOutputs(regex="a+")
    one, other = (compiled(grammars, outputs) for _ in range(2))
    for _ in range(1000):
        one.charge(WORK_PER_TOKEN_S)
    with pytest.raises(InvalidRequestError, match=r"took 2\.1 s for 1001 tokens, more than 0\.1 s and 2 ms a token"):
        one.charge(1.1 * FREE_WORK_S)
    other.charge(FREE_WORK_S)


def test_answers_do_not_share_their_state(grammars: Grammars) -> None:
    outputs = StructuredOutputs(regex="ab")
    states = [GrammarState(compiled(grammars, outputs)) for _ in range(2)]
    assert not states[0].is_complete_with(ord("a"))
    assert states[0].is_complete_with(ord("b"))
    assert not states[1].is_complete_with(ord("a"))


def test_a_grammar_may_name_tokens_that_the_check_does_not_know() -> None:
    check_grammar(StructuredOutputs(grammar='start: <[131071]> "x"'))
    with pytest.raises(InvalidRequestError, match="structured_outputs cannot be followed"):
        check_grammar(StructuredOutputs(grammar='start: <[999999999]> "x"'))
