"""The points that the field's suites go through: head sizes, pairs of lengths, groups and options, forward and backward."""

from itertools import cycle

import pytest
import torch
from ops.flash_attn.formula import Options, randn
from ops.flash_attn.test_dense import DTYPES, Case, check

HEAD_SIZES = (1, 7, 32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256, 512)
LENGTHS = (
    (1, 239),
    (3, 799),
    (127, 512),
    (127, 512),
    (113, 203),
    (128, 217),
    (113, 211),
    (108, 256),
    (256, 512),
    (512, 256),
)
LONG = ((1024, 1024), (1023, 1024), (1024, 1023), (2048, 2048), (1, 128 * 1024))
HEADS = ((2, 2), (4, 2), (3, 1))
OPTIONS = (
    Options(),
    Options(causal=True),
    Options(window_size=(64, 17)),
    Options(softcap=15.0, causal=True),
    Options(alibi_slopes=randn(4, seed=6).abs() * 0.3, causal=True),
    Options(alibi_slopes=randn(1, 4, seed=7).abs() * 0.3, window_size=(100, -1)),
)


def grid() -> list[Case]:
    """Each head size in each dtype; lengths, groups and options take turns, which meet in ever new ways."""
    lengths, heads, options = cycle(LENGTHS), cycle(HEADS), cycle(OPTIONS)
    cases = []
    for dtype in DTYPES:
        for size in HEAD_SIZES:
            num_heads, num_kv_heads = next(heads)
            chosen, (num_rows, num_keys) = next(options), next(lengths)
            if chosen.alibi_slopes is not None:
                chosen = Options(
                    causal=chosen.causal,
                    window_size=chosen.window_size,
                    alibi_slopes=chosen.alibi_slopes[..., :num_heads],
                )
            cases.append(
                Case(
                    batch=1,
                    num_rows=num_rows,
                    num_keys=num_keys,
                    num_heads=num_heads,
                    num_kv_heads=num_kv_heads,
                    key_size=size,
                    value_size=size,
                    dtype=dtype,
                    options=chosen,
                )
            )
    return cases


@pytest.mark.parametrize("case", grid(), ids=lambda case: f"{case.key_size}-{str(case.dtype).removeprefix('torch.')}")
def test_every_head_size(case, backend):
    if backend == "reference" and case.dtype != torch.float32:
        pytest.skip("the reference computes in fp32 whatever the types")
    check(case, gradient_roundings=4)


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
