import os
import subprocess
import sys
import threading

import pytest
import torch

from octavo import ops
from octavo.ops import OpArgumentError, StoredWeight, WeightFormat
from octavo.ops.dispatch import NATIVE, Kernel, Op

needs_native = pytest.mark.skipif(NATIVE is None, reason="octavo._native is not built")


def in_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_first_capable_kernel_runs():
    op = Op(
        (
            Kernel("even", lambda n: n % 2 == 0, lambda n: f"even {n}"),
            Kernel("any", lambda n: True, lambda n: f"any {n}"),
        )
    )
    assert op(4) == "even 4"
    assert op(3) == "any 3"


@needs_native
def test_the_environment_forces_a_backend():
    code = "from octavo import ops; print(ops.isa())"
    assert in_new_process(code, OCTAVO_OPS="reference").stdout.strip() == "reference"
    assert in_new_process(code, OCTAVO_ISA="baseline").stdout.strip() == "baseline"


@needs_native
def test_an_unknown_instruction_set_is_refused():
    result = in_new_process("from octavo import ops", OCTAVO_ISA="mmx")
    assert result.returncode != 0
    assert "ConfigError" in result.stderr
    assert "avx2" in result.stderr


@needs_native
def test_a_forked_child_computes():
    code = """
import os, torch
from octavo import ops
from octavo.ops import StoredWeight, WeightFormat
ops.set_num_threads(2)
weight = ops.pack_weight(StoredWeight(torch.ones(300, 64), WeightFormat.F32, 300, 64), device="cpu")
want = ops.linear(torch.ones(3, 64), weight)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(ops.linear(torch.ones(3, 64), weight), want) else 1)
print(os.waitpid(child, 0)[1])
"""
    result = in_new_process(code)
    assert result.stdout.strip() == "0", result.stderr


@needs_native
def test_calls_from_several_threads_and_changes_of_their_number(threads):
    weight = ops.pack_weight(StoredWeight(torch.randn(500, 64), WeightFormat.F32, 500, 64), device="cpu")
    x = torch.randn(9, 64)
    want = ops.linear(x, weight)
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not torch.equal(ops.linear(x, weight), want):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for count in (1, 2, 3, 2, 4, 1, 2):
        threads(count)
    for worker in workers:
        worker.join()
    assert not wrong


def test_num_threads(threads):
    threads(2)
    assert ops.num_threads() == 2
    for wrong in (0, -1, 1025, 2**31):
        with pytest.raises(OpArgumentError):
            ops.set_num_threads(wrong)
    assert ops.num_threads() == 2


@needs_native
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory")
def test_threads_that_the_system_does_not_start_are_an_error():
    code = """
import resource, torch
from octavo import ops
from octavo.ops.dispatch import NATIVE
x = torch.randn(64, 4096)
want = ops.softmax(x)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
limit = (int(status["VmSize"].split()[0]) << 10) + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
NATIVE.set_num_threads(1000)
try:
    ops.softmax(x)
except RuntimeError as error:
    print(error)
NATIVE.set_num_threads(2)
assert torch.equal(ops.softmax(x), want)
"""
    result = in_new_process(code)
    assert result.returncode == 0, result.stderr
    assert "of 999 worker threads; use fewer threads" in result.stdout
