"""Random numbers that depend on (seed, position) and on nothing else.

Philox4x32-10: Salmon, Moraes, Dror, Shaw, «Parallel Random Numbers: As Easy as 1, 2, 3», SC 2011, §3.3. A counter-based
generator has no state to carry, so a request draws the same numbers whatever shares its batch, and again after a
preemption (law 2).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_NUM_ROUNDS = 10
_SEED_MASK = (1 << 64) - 1

Words = NDArray[np.uint64]


def philox(counter_4N: Words, key_2N: Words) -> Words:
    """Philox4x32-10 of N counters, each under its own key; words are 32-bit values held in uint64.

    Shapes: counter [4, N], key [2, N] → [4, N]. The inputs are not changed.
    """
    c0, c1, c2, c3 = counter_4N
    k0, k1 = key_2N
    for _ in range(_NUM_ROUNDS):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> _HALF) ^ c1 ^ k0,
            product_1 & _LOW,
            (product_0 >> _HALF) ^ c3 ^ k1,
            product_0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return np.stack([c0, c1, c2, c3])


def uniforms(seeds: ArrayLike, positions: ArrayLike) -> NDArray[np.float64]:
    """One number in [0, 1) for each (seed, position): 53 bits of philox(counter = position, key = seed).

    `seeds` are uint64 (see `seed_word`), `positions` integers from 0; both [N]. The result, [N], is the caller's.
    """
    seed_N = np.asarray(seeds, dtype=np.uint64)
    position_N = np.asarray(positions, dtype=np.uint64)
    zero_N = np.zeros_like(position_N)
    counter_4N = np.stack([position_N & _LOW, position_N >> _HALF, zero_N, zero_N])
    key_2N = np.stack([seed_N & _LOW, seed_N >> _HALF])
    high_N, low_N, _, _ = philox(counter_4N, key_2N)
    bits_N = ((high_N << _HALF) | low_N) >> np.uint64(11)
    uniform_N: NDArray[np.float64] = bits_N.astype(np.float64) * 2.0**-53
    return uniform_N


def seed_word(seed: int) -> int:
    """A seed of any sign as the uint64 that keys the generator: seed mod 2⁶⁴."""
    return seed & _SEED_MASK
