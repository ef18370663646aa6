"""Kernels compiled ahead of time, for GPUs that are not there: they compile, fit into shared memory, and spill what is known."""

import pytest
import torch
from ops.attention_problem import CAUSAL, Layout, Problem, head_scales, head_slopes, request_scales, shared_bias

from octavo.ops import Dropout

pytest.importorskip("triton", reason="Triton is not installed")

from octavo.ops.triton.ahead_of_time import ARCHITECTURES, resources
from octavo.ops.triton.arguments import Launch
from octavo.ops.triton.backward import backward_launches
from octavo.ops.triton.forward import forward_launches

PREFILL = {"requests": ((64, 64),) * 2, "layout": Layout.DENSE, "has_hints": True}
DECODE = {"requests": ((1, 1100), (1, 20)), "has_hints": True}
MIXED = {"requests": ((1, 1100), (60, 60)), "group": 3}

SPILLED_BYTES = {
    (4, 80, 128): {"forward_kernel": 16},
    (4, 90, 256): {"forward_kernel": 16},
    (1, 90, 64): {"split_kernel": 8},
}
"""By query heads a KV head, architecture and head size: up to four registers, for addresses that a loop only reads."""


def forward_of(problem: Problem, architecture: int) -> list[Launch]:
    built = problem.build()
    o, lse = built.outputs()
    limits = ARCHITECTURES[architecture]
    return forward_launches(built.q, built.k_cache, built.v_cache, built.plan, built.options, o, lse, limits)


def backward_of(problem: Problem, architecture: int) -> list[Launch]:
    built = problem.build()
    o, lse = built.outputs()
    gradients, limits = (built.q, built.k_cache, built.v_cache), ARCHITECTURES[architecture]
    return backward_launches(
        o, built.q, built.k_cache, built.v_cache, o, lse, built.plan, built.options, gradients, limits
    )


def check(launches: list[Launch], architecture: int, spilled_bytes: dict[str, int] | None) -> list[str]:
    """The names of the kernels, which spill so many bytes at most, none unless named; None: any number."""
    found = [resources(launch, architecture) for launch in launches]
    for each in found:
        assert each.shared_bytes <= ARCHITECTURES[architecture].shared_bytes, each
        assert spilled_bytes is None or each.spilled_bytes <= spilled_bytes.get(each.kernel, 0), each
    return [each.kernel for each in found]


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("group", [1, 4])
def test_main_launches_fit_and_spill_what_is_known(group, size, architecture):
    sizes = {"key_size": size, "value_size": size, "group": group}
    fp16, bf16 = {"dtype": torch.float16, **sizes}, {"dtype": torch.bfloat16, **sizes}
    causal, full = Problem(**PREFILL, **bf16, options=CAUSAL), Problem(**PREFILL, **fp16)
    spilled = SPILLED_BYTES.get((group, architecture, size), {})
    assert check(forward_of(causal, architecture), architecture, spilled) == ["forward_kernel"]
    assert check(forward_of(full, architecture), architecture, spilled) == ["forward_kernel"]
    decode = Problem(**DECODE, **bf16, options=CAUSAL)
    assert check(forward_of(decode, architecture), architecture, spilled) == ["split_kernel", "merge_kernel"]
    names = ["delta_kernel", "key_gradient_kernel", "query_gradient_kernel"]
    assert check(backward_of(causal, architecture), architecture, spilled) == names


SCALES = {"k_scales": head_scales, "v_scales": request_scales}
EVERYTHING = {
    "window_left": 40,
    "window_right": 3,
    "softcap": 3.0,
    "alibi_slopes": head_slopes,
    "bias": shared_bias,
    "sinks": lambda p, randn: randn(p.num_heads).double(),
    "dropout": Dropout(probability=0.1, seed=-1),
}


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        (86, Problem(**MIXED, key_size=128, value_size=128, dtype=torch.float16, options=EVERYTHING)),
        (80, Problem(**MIXED, key_size=59, value_size=7, dtype=torch.bfloat16, layout=Layout.VARLEN)),
        (90, Problem(**MIXED, key_size=80, value_size=96, dtype=torch.float32, block_size=5, options=CAUSAL)),
    ],
    ids=["everything", "odd sizes", "fp32"],
)
def test_every_option_compiles(architecture, problem):
    check(forward_of(problem, architecture), architecture, None)
    check(backward_of(problem, architecture), architecture, None)


@pytest.mark.parametrize(
    ("architecture", "spilled_bytes"),
    [(80, {}), (89, {"forward_kernel": 40}), (90, {"split_kernel": 8})],
    ids=["converted by hand", "converted by the device, in few registers", "converted by the device"],
)
def test_scaled_caches_compile(architecture, spilled_bytes):
    caches = {"cache_dtype": torch.float8_e4m3fn, "block_size": 64, "options": {**SCALES, **CAUSAL}}
    problem = Problem(**MIXED, **caches, key_size=128, value_size=128, dtype=torch.bfloat16)
    check(forward_of(problem, architecture), architecture, spilled_bytes)


def test_heads_of_512_fit_where_memory_is_small():
    problem = Problem(**PREFILL, key_size=512, value_size=512, group=4, dtype=torch.float16, options=CAUSAL)
    check([*forward_of(problem, 86), *backward_of(problem, 86)], 86, {})
