"""What is streamed joins to what the whole decode gives, whatever the chunks, stops and bytes."""

import itertools
import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.tokenizer.detokenizer import IncrementalDetokenizer
from octavo.tokenizer.tokenizer import Tokenizer

MANY = settings(max_examples=120, deadline=None, derandomize=True, database=None)

STOPS = st.lists(st.text(alphabet="ab é😀", min_size=1, max_size=4), min_size=0, max_size=4)
TEXT_IDS = [259, 260, 261, 262, 263, 264, 265]  # ▁ a b ▁a ab é ▁▁
BYTE_IDS = [3 + byte for byte in (0x61, 0x62, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 0xED, 0xA0, 0xE2)]
IDS = st.lists(st.sampled_from([*TEXT_IDS * 3, *BYTE_IDS * 2, 1, 2]), max_size=40)


def chunks(ids: Sequence[int], cuts: Sequence[int]) -> Iterator[Sequence[int]]:
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        yield ids[start:end]


def certain_text(tokenizer: Tokenizer, ids: Sequence[int], skip: bool) -> str:
    """The text of `ids` that no further byte can change: what all continuations have in common."""
    skipped = tokenizer.special_token_ids if skip else frozenset()
    data = b"".join(tokenizer.token_bytes(token_id) for token_id in ids if token_id not in skipped)
    tails = [b"!", *(bytes([byte]) + more for byte in range(0x80, 0xC0) for more in (b"!", b"\x80!", b"\x80\x80!"))]
    return os.path.commonprefix([(data + tail).decode("utf-8", "replace") for tail in tails])  # noqa: RUF071  (of characters, as it does)


def oracle(
    tokenizer: Tokenizer, ids: Sequence[int], stops: Sequence[str], include: bool, skip: bool
) -> tuple[str, str | None, int]:
    """Brute force: after each token search the whole text so far."""
    for num_used in range(1, len(ids) + 1):
        text = certain_text(tokenizer, ids[:num_used], skip)
        found = [(text.find(stop), index) for index, stop in enumerate(stops) if stop in text]
        if found:
            start, index = min(found)
            return text[: start + len(stops[index]) * include], stops[index], num_used
    return tokenizer.decode(ids, skip_special_tokens=skip, is_continuation=True), None, len(ids)


@MANY
@given(ids=IDS, cuts=st.lists(st.integers(0, 50), max_size=8), skip=st.booleans())
def test_stream_joins_to_the_whole(tiny_sentencepiece: Tokenizer, ids: list[int], cuts: list[int], skip: bool) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece, skip_special_tokens=skip)
    pieces = [detokenizer.push(chunk) for chunk in chunks(ids, cuts)]
    text = "".join(piece.text for piece in pieces) + detokenizer.finish()
    assert text == tiny_sentencepiece.decode(ids, skip_special_tokens=skip, is_continuation=True)
    assert sum(piece.num_tokens_used for piece in pieces) == len(ids)
    assert detokenizer.finish() == ""


@MANY
@given(ids=IDS, cuts=st.lists(st.integers(0, 50), max_size=8), stops=STOPS, include=st.booleans(), skip=st.booleans())
def test_stops_equal_brute_force(
    tiny_sentencepiece: Tokenizer, ids: list[int], cuts: list[int], stops: list[str], include: bool, skip: bool
) -> None:
    detokenizer = IncrementalDetokenizer(
        tiny_sentencepiece, skip_special_tokens=skip, stop=tuple(stops), include_stop_str_in_output=include
    )
    text, stop_string, num_used = "", None, 0
    expected = oracle(tiny_sentencepiece, ids, stops, include, skip)
    for chunk in chunks(ids, cuts):
        piece = detokenizer.push(chunk)
        text += piece.text
        assert expected[0].startswith(text)  # nothing sent is ever taken back
        num_used += piece.num_tokens_used
        stop_string = piece.stop_string
        if stop_string is not None:
            break
    assert (text + detokenizer.finish(), stop_string, num_used) == expected


@MANY
@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 80), max_size=8))
def test_byte_level_stream(tiny_bpe: Tokenizer, text: str, cuts: list[int]) -> None:
    ids = tiny_bpe.encode(text, parse_special=False)
    detokenizer = IncrementalDetokenizer(tiny_bpe, stop=("never\x00there",))
    streamed = "".join(detokenizer.push(chunk).text for chunk in chunks(ids, cuts)) + detokenizer.finish()
    assert streamed == text


def test_an_emoji_is_held_until_it_is_whole(tiny_sentencepiece: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece)
    texts = [detokenizer.push([3 + byte]).text for byte in "😀".encode()]
    assert texts == ["", "", "", "😀"]


def test_an_unfinished_character_becomes_a_replacement(tiny_sentencepiece: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece)
    assert detokenizer.push([260, 3 + 0xF0, 3 + 0x9F]).text == "a"
    assert detokenizer.finish() == "\ufffd"


def test_a_leading_space_stays(tiny_sentencepiece: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece)
    assert detokenizer.push([262]).text == " a"


@pytest.mark.parametrize(
    ("stop", "ids", "expected"),
    [
        (("ba",), [260, 261, 260], ["a", "", ""]),  # b is held, and never sent
        (("bab",), [260, 261, 261, 260], ["a", "", "b", ""]),  # the first b is let go
        (("b", "ab"), [263], [""]),  # ab starts first
        (("a", "ab"), [263], [""]),  # together: the first listed
    ],
)
def test_what_is_held(
    tiny_sentencepiece: Tokenizer, stop: tuple[str, ...], ids: list[int], expected: list[str]
) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece, stop=stop)
    pieces = [detokenizer.push([token_id]) for token_id in ids]
    assert [piece.text for piece in pieces] == expected


def test_which_stop_is_reported(tiny_sentencepiece: Tokenizer) -> None:
    for stop, expected in ((("b", "ab"), "ab"), (("a", "ab"), "a"), (("ab", "a"), "ab"), (("b", "b"), "b")):
        assert IncrementalDetokenizer(tiny_sentencepiece, stop=stop).push([263, 261]).stop_string == expected


def test_tokens_after_the_stop_are_not_used(tiny_sentencepiece: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece, stop=("b",), include_stop_str_in_output=True)
    piece = detokenizer.push([260, 263, 260, 261])
    assert (piece.text, piece.stop_string, piece.num_tokens_used) == ("aab", "b", 2)
    assert detokenizer.finish() == ""


def test_each_token_is_read_once(tiny_sentencepiece: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = Tokenizer.token_bytes
    monkeypatch.setattr(Tokenizer, "token_bytes", lambda self, index: (read.append(index), original(self, index))[1])
    ids = [260, 261] * 500
    detokenizer = IncrementalDetokenizer(tiny_sentencepiece, stop=("bb",))
    for token_id in ids:
        detokenizer.push([token_id])
    assert read == ids


def test_stop_strings_do_not_count_within_min_tokens(tiny_bpe: Tokenizer) -> None:
    ids = tiny_bpe.encode("the cat sat on the cat", add_special_tokens=False)
    detokenizer = IncrementalDetokenizer(tiny_bpe, stop=("cat",), min_tokens=len(ids) - 3)
    pieces = [detokenizer.push([token]) for token in ids]
    assert "the cat sat" in "".join(piece.text for piece in pieces)
    assert pieces[-1].stop_string == "cat"


def test_special_tokens_that_are_shown(tiny_bpe: Tokenizer) -> None:
    ids = tiny_bpe.encode("the<|im_end|> cat<s>", add_special_tokens=False)
    shown = tiny_bpe.token_to_id("<|im_end|>")
    assert shown in tiny_bpe.special_token_ids
    detokenizer = IncrementalDetokenizer(tiny_bpe, shown_special_token_ids=(shown,))
    assert detokenizer.push(ids).text + detokenizer.finish() == "the<|im_end|> cat"
