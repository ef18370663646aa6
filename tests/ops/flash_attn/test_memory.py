"""Memory of 32k tokens, in a process of its own. A matrix of their scores would take 4 GiB in fp32."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from octavo.ops.dispatch import NATIVE

TOKENS = 32 * 1024
HEAD_SIZE = 64
MEASURE = """
import sys
import torch
from octavo import ops
from octavo.bench.peak_memory import peak_bytes_above_start

name, tokens, head_size, path, algorithm = sys.argv[1:]
ops.set_num_threads(2)
if path:
    from octavo.ops.dispatch import NATIVE
    NATIVE.force_attention_path(path)

def formula(q, k, v):
    s = torch.einsum("bihd,bjhd->bhij", q, k)
    return torch.einsum("bhij,bjhd->bihd", torch.softmax(s, -1), v)

def attend(q, k, v, do):
    out = formula(q, k, v) if algorithm == "formula" else ops.flash_attn_func(q, k, v, causal=True)
    return out, torch.autograd.grad(out, (q, k, v), do)

def inputs(tokens):
    shape = (1, tokens, 1, int(head_size))
    q, k, v, do = (torch.randn(shape, dtype=getattr(torch, name)) for _ in range(4))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), do

attend(*inputs(1))
arguments = inputs(int(tokens))
print(peak_bytes_above_start(lambda: attend(*arguments)))
"""

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux"),
    pytest.mark.skipif(NATIVE is None, reason="needs the native kernels"),
]


def peak_bytes(name: str, tokens: int, path: str = "", algorithm: str = "octavo") -> int:
    """Of forward and backward, above the start, when q, k, v and do were there."""
    arguments = [name, str(tokens), str(HEAD_SIZE), path, algorithm]
    result = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.parametrize(("name", "path"), [("float32", ""), ("bfloat16", ""), ("bfloat16", "vector")])
def test_32k_tokens_take_three_times_their_inputs_and_outputs(name: str, path: str) -> None:
    matrix = TOKENS * HEAD_SIZE * getattr(torch, name).itemsize
    inputs, inputs_and_outputs = 4 * matrix, 8 * matrix  # q, k, v, do; o, dq, dk, dv
    assert inputs + peak_bytes(name, TOKENS, path) <= 3 * inputs_and_outputs


def test_a_matrix_of_scores_is_seen() -> None:
    tokens = 4096
    assert peak_bytes("float32", tokens, algorithm="formula") >= 4 * tokens**2
