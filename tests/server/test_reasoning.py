"""The split between reasoning and answer, cut anywhere."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server.tools.reading_time import fastest_s

from octavo.server.answer_events import AnswerEvent, ReasoningDelta, WholeAnswer
from octavo.server.reasoning import ReasoningParser

parts = st.sampled_from(
    ("<think>", "</think>", "<", "/", "</thi", "<think", "\n", " ", "Hm 👋🏽", "日本", ">")
) | st.text(max_size=5)


def split(*pieces: str, is_open: bool = False) -> tuple[str, str]:
    answer, parser = WholeAnswer(), ReasoningParser(is_open=is_open)
    for piece in pieces:
        answer.add(parser.push(piece))
    answer.add(parser.finish())
    return answer.reasoning, answer.text


@pytest.mark.parametrize(
    ("text", "is_open", "reasoning", "content"),
    [
        ("<think>\nHm.\n</think>\n\nYes. ", False, "Hm.", "Yes. "),
        (" \n<think>Hm</think>Yes", False, "Hm", "Yes"),
        ("Hm.\n</think>\n\nYes.", True, "Hm.", "Yes."),
        ("\n\n</think>\nYes.", True, "", "Yes."),
        ("<think>\n\n</think>\n\nYes.", False, "", "Yes."),
        ("Yes. <think>no</think>", False, "", "Yes. <think>no</think>"),
        (" Yes.", False, "", " Yes."),
        ("<thing> Yes.", False, "", "<thing> Yes."),
        ("<think>a < b </thi</think>c</think>", False, "a < b </thi", "c</think>"),
        ("<think>cut off </th", False, "cut off </th", ""),
        ("cut off", True, "cut off", ""),
        ("<thi", False, "", "<thi"),
        ("", True, "", ""),
    ],
)
def test_split(text: str, is_open: bool, reasoning: str, content: str) -> None:
    assert split(text, is_open=is_open) == (reasoning, content)
    assert split(*text, is_open=is_open) == (reasoning, content)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(data=st.data(), texts=st.lists(parts, max_size=10), is_open=st.booleans())
def test_streamed_is_whole_whatever_the_cuts(data: st.DataObject, texts: list[str], is_open: bool) -> None:
    text = "".join(texts)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    assert split(*pieces, is_open=is_open) == split(text, is_open=is_open)


def test_reasoning_is_not_held_back() -> None:
    parser = ReasoningParser(is_open=False)
    assert parser.push("<think>") == []
    expected: list[AnswerEvent] = [ReasoningDelta("Hm")]
    assert parser.push("Hm") == expected
    assert parser.push("</") == []
    expected = [ReasoningDelta("</x")]
    assert parser.push("x") == expected


@pytest.mark.parametrize("is_open", [False, True])
def test_white_space_that_is_held_is_not_copied_for_each_character(is_open: bool) -> None:
    nothing_held, much_held = ReasoningParser(is_open=is_open), ReasoningParser(is_open=is_open)
    much_held.push(" " * 400_000)
    assert fastest_s(much_held) < 4 * fastest_s(nothing_held)
