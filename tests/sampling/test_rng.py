"""Philox4x32-10 against the vectors its authors publish (Random123, kat_vectors), and the uniforms made from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.sampling.rng import philox, seed_word, uniforms

KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return np.array([int(word, 16) for word in text.split()], dtype=np.uint64)[:, None]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_vectors(counter, key, expected):
    assert np.array_equal(philox(words(counter), words(key)), words(expected))


def test_vectors_together_are_the_vectors_alone():
    counters = np.concatenate([words(c) for c, _, _ in KNOWN], axis=1)
    keys = np.concatenate([words(k) for _, k, _ in KNOWN], axis=1)
    assert np.array_equal(philox(counters, keys), np.concatenate([words(e) for _, _, e in KNOWN], axis=1))


def test_uniform_is_the_top_53_bits_of_the_first_two_words():
    bits = 0x6627E8D5E169C58D
    assert uniforms([0], [0])[0] == (bits >> 11) / 2**53


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40)), min_size=1, max_size=40))
@settings(deadline=None)
def test_each_depends_on_its_own_seed_and_position_alone(pairs):
    seeds, positions = zip(*pairs, strict=True)
    together = uniforms(np.array(seeds, dtype=np.uint64), np.array(positions))
    alone = [uniforms([seed], [position])[0] for seed, position in pairs]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


@pytest.mark.parametrize("along", ["seeds", "positions"])
def test_even_and_uncorrelated_along_seeds_and_positions(along):
    count = 50_000
    index, same = np.arange(count), np.full(count, 3)
    u = uniforms(index, same) if along == "seeds" else uniforms(same, index)
    observed = np.histogram(u, bins=64, range=(0, 1))[0]
    chi_square = ((observed - count / 64) ** 2 / (count / 64)).sum()
    assert chi_square < 63 + 4 * np.sqrt(2 * 63)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / np.sqrt(count)
    assert len(np.unique(u)) == count


def test_no_numbers():
    assert uniforms([], []).shape == (0,)


@pytest.mark.parametrize(("seed", "word"), [(5, 5), (-1, 2**64 - 1), (-(2**63), 2**63), (2**64 - 1, 2**64 - 1)])
def test_seeds_of_any_sign(seed, word):
    assert seed_word(seed) == word
