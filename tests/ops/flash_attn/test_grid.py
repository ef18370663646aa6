"""The points that the field's suites go through: head sizes, pairs of lengths, groups and options, forward and backward."""

from dataclasses import dataclass
from itertools import combinations, product

import pytest
import torch
from ops.flash_attn.dense_case import DTYPES, Case, check
from ops.flash_attn.formula import Options, randn

HEAD_SIZES = (1, 7, 32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256, 512)
OPTIONS = ("all", "causal", "local", "soft cap", "ALiBi", "ALiBi of each request")
HEADS = ((2, 2), (4, 2), (3, 1))
LENGTHS = ((1, 239), (3, 799), (127, 512), (113, 203), (128, 217), (108, 256), (256, 512))
LONG = ((512, 256), (1024, 1024), (1023, 1024), (1024, 1023), (2048, 2048), (1, 128 * 1024))
ENOUGH = 128
"""Values of an output, for the error of PyTorch not to be luck."""


@dataclass(frozen=True, kw_only=True)
class Point:
    size: int
    option: str
    heads: tuple[int, int]
    dtype: torch.dtype
    lengths: tuple[int, int]

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.size}-{self.option}-{self.heads[0]}:{self.heads[1]}-{dtype}-{self.lengths[0]}x{self.lengths[1]}"

    def case(self) -> Case:
        (num_heads, num_kv_heads), (num_rows, num_keys) = self.heads, self.lengths
        batch = -(-ENOUGH // (num_rows * num_heads * self.size))
        slopes = randn(batch, num_heads, seed=6).abs() * 0.3
        options = {
            "all": Options(),
            "causal": Options(causal=True),
            "local": Options(window_size=(64, 17)),
            "soft cap": Options(softcap=15.0, causal=True),
            "ALiBi": Options(alibi_slopes=slopes[0], causal=True),
            "ALiBi of each request": Options(alibi_slopes=slopes, window_size=(100, -1)),
        }[self.option]
        return Case(
            batch=batch,
            num_rows=num_rows,
            num_keys=num_keys,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            key_size=self.size,
            value_size=self.size,
            dtype=self.dtype,
            options=options,
        )


def grid() -> list[Point]:
    """Each head size with each option. Heads turn with i + j and dtypes with i + 2j, so that they meet in all nine ways and
    each option and each head size meets all of them; the seven lengths share no factor with the rest."""
    return [
        Point(
            size=size,
            option=option,
            heads=HEADS[(i + j) % 3],
            dtype=DTYPES[(i + 2 * j) % 3],
            lengths=LENGTHS[(2 * i + j) % 7],
        )
        for (i, size), (j, option) in product(enumerate(HEAD_SIZES), enumerate(OPTIONS))
    ]


def test_all_pairs_occur():
    axes = {"size": HEAD_SIZES, "option": OPTIONS, "heads": HEADS, "dtype": DTYPES, "lengths": LENGTHS}
    for a, b in combinations(axes, 2):
        if (a, b) != ("size", "lengths"):  # more than there are points
            met = {(getattr(point, a), getattr(point, b)) for point in grid()}
            assert met == set(product(axes[a], axes[b])), (a, b)


@pytest.mark.parametrize("point", grid(), ids=str)
def test_points(point, attention_backend):
    if attention_backend == "reference" and point.dtype != torch.float32:
        pytest.skip("the reference computes in fp32 whatever the types")
    check(point.case())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", LONG, ids=str)
def test_long(lengths, dtype):
    num_rows, num_keys = lengths
    check(
        Case(
            batch=1,
            num_rows=num_rows,
            num_keys=num_keys,
            num_heads=2,
            num_kv_heads=1,
            key_size=64,
            value_size=64,
            dtype=dtype,
            options=Options(causal=True),
        )
    )
