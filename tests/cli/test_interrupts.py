"""A signal at any moment of a command's start: as a process, since signals and imports are the process's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import octavo as octavo_package

_SIGNAL_AT_IMPORT = """
import importlib.abc, os, signal, sys

moment, number = sys.argv.pop(1), int(sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored

class Sender(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == moment:
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Sender())
from octavo.cli.__main__ import main

main()
"""


def interrupted(moment: str, number: signal.Signals, *command: str) -> subprocess.CompletedProcess[str]:
    """The command, which gets the signal as it begins to import the module `moment`."""
    return subprocess.run(
        [sys.executable, "-c", _SIGNAL_AT_IMPORT, moment, str(int(number)), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(octavo_package.__file__).parents[1])},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["typer", "uvicorn"], ids=["its command line is read", "the server is imported"])
def test_a_server_that_is_asked_to_end_ends_with_0(number: signal.Signals, moment: str) -> None:
    result = interrupted(moment, number, "serve", "--port", "0")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_asked_to_end_while_it_loads_says_so(tiny_model: Path, number: signal.Signals) -> None:
    result = interrupted("octavo.engine.async_engine", number, "serve", str(tiny_model), "--port", "0")
    assert result.returncode == 0
    assert result.stderr.splitlines()[1:] == ["Octavo has ended."]


@pytest.mark.parametrize("moment", ["typer", "octavo.loader.fetch"])
def test_other_commands_end_with_130(moment: str) -> None:
    result = interrupted(moment, signal.SIGINT, "pull", "no-such-model")
    assert (result.returncode, result.stderr) == (130, "")
