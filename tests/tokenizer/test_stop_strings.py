"""What reading for stop strings costs, beside what it finds, which the detokenizer's tests hold to brute force."""

import random

from octavo.tokenizer import stop_strings
from octavo.tokenizer.stop_strings import StopMatch, StopMatcher


def test_the_samples_of_a_request_share_what_is_made_of_its_stop_strings(monkeypatch) -> None:
    made = []
    compute = stop_strings._fallbacks
    monkeypatch.setattr(stop_strings, "_fallbacks", lambda stop: made.append(stop) or compute(stop))
    stop = ["shared by all samples", "and this"]
    matchers = [StopMatcher(stop) for _ in range(128)]
    assert made == stop
    assert matchers[0].read("shared by") is None
    assert [matcher.num_held for matcher in matchers[:2]] == [9, 0]


def test_what_looks_like_a_stop_string_again_and_again_is_read_in_linear_time() -> None:
    """Each character is compared at most twice, though the text always has a thousand that begin the stop string."""
    compared = []

    class Char(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            compared.append(other)
            return str.__ne__(self, other)

    matcher = StopMatcher(["a" * 1000 + "b"])
    for _ in range(3000):
        assert matcher.read([Char("a")]) is None  # type: ignore[arg-type]
    assert matcher.num_held == 1000
    assert len(compared) < 4 * 3000
    assert matcher.read("b") == StopMatch(2000, 0, 1001)


def test_many_long_stop_strings_are_found_where_they_end() -> None:
    rng = random.Random(0)
    stop = ["".join(rng.choice("ab") for _ in range(64)) for _ in range(64)]
    matcher = StopMatcher(stop)
    assert matcher.read("ab" * 50 + stop[63][:-1]) is None
    assert matcher.read(stop[63][-1]) == StopMatch(100, 63, 64)
