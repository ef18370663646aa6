"""Tokenising beside other threads."""

import itertools
import threading
import time

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
