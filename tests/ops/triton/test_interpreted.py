"""Runs the tests of `interpreted/` in processes that interpret Triton's kernels on the CPU."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FIRST_VERSION = (3, 7)
"""The interpreter of those before does not know numpy 2.4."""
FILES = sorted((Path(__file__).parent / "interpreted").glob("test_*.py"))


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[Path, subprocess.Popen[str]]]:
    """All at once, a process a file: they take a minute."""
    started = {}
    for file in FILES:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-W", "ignore", str(file)]
        started[file] = subprocess.Popen(
            command,
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    yield started
    for run in started.values():
        run.kill()


def triton_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in importlib.metadata.version("triton").split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        return ()


@pytest.mark.skipif(triton_version() < FIRST_VERSION, reason=f"Triton is {triton_version()}, or not installed: ()")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kernels_in_the_interpreter(file: Path, runs: dict[Path, subprocess.Popen[str]]) -> None:
    output, _ = runs[file].communicate()
    assert runs[file].returncode == 0, output[-20000:]
    assert " passed" in output
