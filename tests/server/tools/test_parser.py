"""Tool calls read from answers: every format, cut anywhere, whole or broken."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server.tools.reading_time import fastest_s
from server.tools.written_calls import (
    MANY,
    NASTY,
    Call,
    arguments,
    calls,
    names,
    parse,
    parser,
    plain_texts,
    rubble,
    summary,
    written,
)

from octavo.server.answer_events import AnswerEvent, ArgumentsDelta, TextDelta, ToolCallBegin, WholeAnswer
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.generic_json import GENERIC_JSON
from octavo.server.tools.hermes import HERMES
from octavo.server.tools.llama3 import LLAMA3
from octavo.server.tools.mistral import MISTRAL, MISTRAL_ARGS
from octavo.server.tools.registry import FORMATS


def joined(events: list[AnswerEvent]) -> list[Any]:
    """The events with neighbours of one kind put together: their order counts too."""
    merged: list[Any] = []
    for event in events:
        if merged and isinstance(event, TextDelta) and isinstance(merged[-1], TextDelta):
            merged[-1] = TextDelta(merged[-1].text + event.text)
        elif isinstance(event, ArgumentsDelta) and isinstance(merged[-1], ArgumentsDelta):
            assert merged[-1].index == event.index
            merged[-1] = ArgumentsDelta(event.index, merged[-1].text + event.text)
        else:
            merged.append(event)
    return merged


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
@MANY
@given(wanted=calls, before=st.sampled_from(("", " \n")))
def test_calls_are_read_as_they_are_written(tool_format: ToolFormat, wanted: list[Call], before: str) -> None:
    answer = parse(tool_format, before + written(tool_format, wanted) + "\n")
    assert summary(answer) == ("", wanted)
    assert [call.id for call in answer.calls] == [f"id{index}" for index in range(len(wanted))]


@pytest.mark.parametrize("tool_format", [HERMES, MISTRAL, MISTRAL_ARGS], ids=lambda f: f.name)
@MANY
@given(wanted=calls, before=plain_texts, after=plain_texts)
def test_text_around_calls_stays(tool_format: ToolFormat, wanted: list[Call], before: str, after: str) -> None:
    answer = parse(tool_format, before + "\n\n" + written(tool_format, wanted) + after)
    assert summary(answer) == (before.rstrip() + (after if after.strip() else ""), wanted)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
@MANY
@given(data=st.data(), parts=st.lists(rubble | st.tuples(names, arguments), max_size=8))
def test_streamed_is_whole_whatever_the_cuts(
    tool_format: ToolFormat, data: st.DataObject, parts: list[str | Call]
) -> None:
    text = "".join(part if isinstance(part, str) else written(tool_format, [part]) for part in parts)
    whole, pieces = parser(tool_format), parser(tool_format)
    expected = joined(whole.push(text) + whole.finish())
    events: list[AnswerEvent] = []
    for piece in cut(text, data):
        events += pieces.push(piece)
    assert joined(events + pieces.finish()) == expected
    assert [event.index for event in expected if isinstance(event, ToolCallBegin)] == list(
        range(sum(isinstance(event, ToolCallBegin) for event in expected))
    )


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
@MANY
@given(parts=st.lists(rubble, max_size=8))
def test_text_without_a_call_is_not_touched(tool_format: ToolFormat, parts: list[str]) -> None:
    text = "".join(parts)
    answer = parse(tool_format, text)
    if not answer.calls:
        assert answer.text == text


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_arguments_come_as_they_are_written(tool_format: ToolFormat) -> None:
    reader = parser(tool_format)
    text = written(tool_format, [("find", NASTY)])
    begin = text.index(NASTY)
    assert reader.push(text[:begin]) == []
    assert reader.push(text[begin : begin + 2]) == [
        ToolCallBegin(0, "id0", "find"),
        *[ArgumentsDelta(0, part) for part in '{"'],
    ]
    for char in NASTY[2:]:
        assert reader.push(char) == [ArgumentsDelta(0, char)]
    assert reader.push(text[begin + len(NASTY) :]) + reader.finish() == []


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda f: f.name)
def test_an_answer_cut_off_keeps_what_there_is_of_the_call(tool_format: ToolFormat) -> None:
    text = written(tool_format, [("one", '{"a": "x"}'), ("two", NASTY)])
    begins = [text.index('{"a"') + 1, text.rindex('{"text"') + 1]
    for end in range(len(text)):
        answer = parse(tool_format, text[:end])
        assert len(answer.calls) == sum(end >= begin for begin in begins)
        for call, begin, arguments_text in zip(answer.calls, begins, ('{"a": "x"}', NASTY), strict=False):
            assert call.arguments == arguments_text[: end - begin + 1]
        assert answer.text == ("" if answer.calls else text[:end])
        forced = parse(tool_format, text[:end], is_forced=True)
        assert summary(forced) == ("", summary(answer)[1])


@pytest.mark.parametrize(
    ("tool_format", "text", "expected"),
    [
        (HERMES, "Look.\n<tool_call>\n{\"name\": 1, \"arguments\": {}}\n</tool_call>", None),
        (HERMES, '<tool_call>{"name": "f"}</tool_call>', None),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>', None),
        (HERMES, '<tool_call>{"name": "", "arguments": {}}</tool_call>', None),
        (HERMES, f'<tool_call>{{"name": "{"f" * 257}", "arguments": {{}}}}</tool_call>', None),
        (HERMES, "<tool_call>f(x)</tool_call>", None),
        (HERMES, "a < b <tool_ c", None),
        (HERMES, '<tool_call><tool_call>{"name": "f", "arguments": {}}</tool_call>', ("<tool_call>", [("f", "{}")])),
        (HERMES, '<tool_call>{"arguments": {"a": 1}, "id": [1], "name": "f"}</tool_call>', ("", [("f", '{"a": 1}')])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1 </tool_call> ok', (" ok", [("f", '{"a": 1 ')])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {"a": ]}', ("]}", [("f", '{"a": ')])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {}}} so', ("} so", [("f", "{}")])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {}}<tool_call>{"name": "g", "arguments": "x"}',
         ("", [("f", "{}"), ("g", '"x"')])),
        (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', ("", [("f", "null")])),
        (HERMES, '<tool_call>{"name": "f", "arguments": {}}\n</tool_', ("", [("f", "{}")])),
        (LLAMA3, '<|python_tag|>{"name": "f", "parameters": {}}', ("", [("f", "{}")])),
        (LLAMA3, 'Then:<|python_tag|>{"name": "f", "arguments": {}}', ("Then:", [("f", "{}")])),
        (LLAMA3, 'See {"name": "f", "parameters": {}}', None),
        (LLAMA3, '{"name": "Ann", "age": 5}', None),
        (LLAMA3, "<|python_tag|>print(1)", None),
        (LLAMA3, '{"name": "f", "parameters": {}} done', (" done", [("f", "{}")])),
        (MISTRAL, '[TOOL_CALLS]{"name": "f", "arguments": {}}', None),
        (MISTRAL, "[TOOL_CALLS] []", None),
        (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {}}, x]', (", x]", [("f", "{}")])),
        (MISTRAL_ARGS, "[TOOL_CALLS]f[CALL_ID]a1B2c3D4e[ARGS]{}", ("", [("f", "{}")])),
        (MISTRAL_ARGS, "[TOOL_CALLS]f {}", None),
        (MISTRAL_ARGS, "[TOOL_CALLS][ARGS]{}", None),
        (MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]7", None),
        (MISTRAL_ARGS, f"[TOOL_CALLS]{'f' * 300}[ARGS]{{}}", None),
        (GENERIC_JSON, ' { "tool_calls" : [ {"name": "f", "arguments": {}} ] }\n', ("", [("f", "{}")])),
        (GENERIC_JSON, '{"tool_calls": []}', None),
        (GENERIC_JSON, '{"tool_calls": 5}', None),
        (GENERIC_JSON, '{"answer": 5}', None),
        (GENERIC_JSON, 'I write {"tool_calls": [{"name": "f", "arguments": {}}]}', None),
    ],
)  # fmt: skip
def test_odd_answers(tool_format: ToolFormat, text: str, expected: tuple[str, list[Call]] | None) -> None:
    """None: the text as it is."""
    answer = parse(tool_format, text)
    assert summary(answer) == (expected or (text, []))
    assert summary(parse(tool_format, *text)) == summary(answer)


def test_a_long_answer_that_never_becomes_a_call_is_read_once() -> None:
    reader = parser(HERMES)
    text = '<tool_call>{"x": "' + "<tool_call>" * 5000
    num_reads = 0
    read = reader._read_text

    def count(char: str) -> None:
        nonlocal num_reads
        num_reads += 1
        read(char)

    reader._read_text = count  # type: ignore[method-assign]
    answer = WholeAnswer()
    answer.add(reader.push(text + '" }'))
    answer.add(reader.finish())
    assert answer.text == text + '" }'
    assert num_reads <= len(text)


@pytest.mark.parametrize(
    ("tool_format", "beginning"),
    [(HERMES, "\n"), (HERMES, '<tool_call>{"x": "'), (GENERIC_JSON, " "), (GENERIC_JSON, '{"tool_calls": [{"x": "')],
)
def test_what_is_held_is_not_copied_for_each_character(tool_format: ToolFormat, beginning: str) -> None:
    """In the same time however much it is."""
    num_chars = 400_000
    nothing_held, much_held = parser(tool_format), parser(tool_format)
    nothing_held.push(beginning)
    much_held.push(beginning + " " * num_chars)
    assert fastest_s(much_held) < 4 * fastest_s(nothing_held)
    assert much_held.finish() == [TextDelta(beginning + " " * (num_chars + 5 * 500))]
