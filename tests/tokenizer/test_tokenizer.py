"""Tokenising beside other threads."""

import threading
import time

from octavo.tokenizer.tokenizer import Tokenizer


def test_other_threads_go_on_while_a_long_text_is_encoded(tiny_bpe: Tokenizer) -> None:
    text = "hello world, this is text. " * 40_000
    encoding = threading.Thread(target=tiny_bpe.encode, args=(text,))
    gaps_s = []
    begin_s = time.perf_counter()
    encoding.start()
    while encoding.is_alive():
        before_s = time.perf_counter()
        encoding.join(0.001)
        gaps_s.append(time.perf_counter() - before_s)
    assert max(gaps_s) < (time.perf_counter() - begin_s) / 2
