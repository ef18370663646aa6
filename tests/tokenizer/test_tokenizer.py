"""Tokenising beside other threads."""

import itertools
import threading
import time

import pytest

from octavo.core.errors import ContextLengthError, InvalidRequestError
from octavo.core.pieces import PIECE_LEN
from octavo.tokenizer.tokenizer import Tokenizer

TEXT = "hello world, this is text. " * 40_000


def test_other_threads_go_on_while_a_long_text_is_encoded(tiny_bpe: Tokenizer) -> None:
    is_over = threading.Event()
    encoding = threading.Thread(target=lambda: (tiny_bpe.encode(TEXT), is_over.set()))
    wakings_s = [time.perf_counter()]
    encoding.start()
    while not is_over.wait(0.001):
        wakings_s.append(time.perf_counter())
    wakings_s.append(time.perf_counter())
    longest_s = max(later - earlier for earlier, later in itertools.pairwise(wakings_s))
    assert longest_s < (wakings_s[-1] - wakings_s[0]) / 2


@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_what_is_counted_is_what_would_be_listed(tiny_bpe: Tokenizer, add_special_tokens: bool) -> None:
    token_ids = tiny_bpe.encode("hello world", add_special_tokens=add_special_tokens)
    assert tiny_bpe.count("hello world", add_special_tokens=add_special_tokens) == len(token_ids)
    with pytest.raises(InvalidRequestError, match="lone surrogates"):
        tiny_bpe.count("\ud83d")


def test_of_more_tokens_than_are_wanted_none_is_listed(tiny_bpe: Tokenizer) -> None:
    token_ids = tiny_bpe.encode("hello world")
    assert tiny_bpe.encode("hello world", max_tokens=len(token_ids)) == token_ids
    said = f"the text has {len(token_ids)} tokens; the ids of at most {len(token_ids) - 1} are listed"
    with pytest.raises(ContextLengthError, match=said):
        tiny_bpe.encode("hello world", max_tokens=len(token_ids) - 1)


def test_a_text_of_many_pieces_is_decoded_whole(tiny_bpe: Tokenizer) -> None:
    text = "hello wörld 日本 " * PIECE_LEN
    token_ids = tiny_bpe.encode(text, add_special_tokens=False)
    assert len(token_ids) > 3 * PIECE_LEN
    assert tiny_bpe.decode(token_ids) == text
