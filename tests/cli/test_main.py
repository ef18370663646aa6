"""Help, errors and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import octavo as package
from octavo.cli.main import main
from octavo.core.errors import (
    ConfigError,
    EngineDeadError,
    ModelFetchError,
    ModelFileError,
    ModelNotFoundError,
    OctavoError,
    UnsupportedModelError,
)

from .conftest import Octavo

COMMANDS = ["generate", "chat", "serve", "bench", "models", "pull", "info"]


def test_version(octavo: Octavo) -> None:
    assert octavo("--version").out == f"octavo {package.__version__}\n"


@pytest.mark.parametrize("command", [[], ["bench"]])
def test_no_arguments_is_help(octavo: Octavo, command: list[str]) -> None:
    result = octavo(*command)
    assert (result.code, result.err) == (2, "")
    assert result.out.rstrip() == octavo(*command, "--help").out.rstrip()


def test_help_lists_the_commands(octavo: Octavo) -> None:
    result = octavo("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.out


@pytest.mark.parametrize(
    "command",
    [[c] for c in COMMANDS] + [["bench", name] for name in ("latency", "throughput", "techniques", "serve")],
)
def test_help_of_each_command(octavo: Octavo, command: list[str]) -> None:
    result = octavo(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: octavo {' '.join(command)}" in result.out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_the_terminal(octavo: Octavo, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = octavo("serve", "--help").out.splitlines()
    assert max(len(line) for line in lines) <= columns


def test_help_of_serve_groups_the_options(octavo: Octavo) -> None:
    text = octavo("serve", "--help").out
    titles = ["Model", "Memory and context", "Scheduling", "Sampling", "Server", "Options", "Not built yet"]
    positions = [text.index(f"\n{title}\n") for title in titles]
    assert positions == sorted(positions)
    assert text.index("--tensor-parallel-size") > positions[-1]
    assert "--[no-]enable-prefix-caching" in text
    assert "[default: 256]" in text


def test_an_unknown_option_names_the_nearest(octavo: Octavo) -> None:
    result = octavo("serve", "--max-modl-len", "4K")
    assert result.code == 2
    assert result.err.splitlines()[0] == "error: unknown option --max-modl-len; did you mean --max-model-len?"
    assert result.out == ""


def test_an_unknown_command_names_the_nearest(octavo: Octavo) -> None:
    result = octavo("serv")
    assert result.code == 2
    assert "serve" in result.err


def test_a_configuration_error_is_one_line_with_flags(octavo: Octavo) -> None:
    result = octavo("info", "--max-num-seqs", "0")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: --max-num-seqs=0 is not in 1 … 65536\n"
    assert octavo("info", "--threads", "two").err.startswith("error: --threads='two' is not a number")


def test_what_says_how_to_time_a_program_needs_one(octavo: Octavo) -> None:
    result = octavo("info", "--requests", "8")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: --requests=8 says what --program times; add --program, or leave it out\n"


@pytest.mark.parametrize("command", [["pull"], ["info"], ["chat"], ["generate", "x", "--model"]])
def test_an_unknown_model_is_what_was_asked_wrongly(octavo: Octavo, command: list[str]) -> None:
    result = octavo(*command, "smolm2")
    assert (result.code, result.out) == (2, "")
    result = octavo("pull", "smolm2")
    assert result.err.startswith("error: model 'smolm2' is no path")
    assert result.err.endswith("did you mean smollm2?\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError, 2),
        (ModelNotFoundError, 2),
        (ModelFileError, 2),
        (UnsupportedModelError, 2),
        (ModelFetchError, 1),
        (EngineDeadError, 1),
    ],
)
def test_a_server_that_no_restart_mends_ends_with_2(
    octavo: Octavo, monkeypatch: pytest.MonkeyPatch, error: type[OctavoError], code: int
) -> None:
    def run(*configs: object) -> None:
        raise error("why")

    monkeypatch.setattr("octavo.server.serve_forever", run)
    result = octavo("serve")
    assert (result.code, result.err) == (code, "error: why\n")


def test_debug_shows_where_an_error_came_from(octavo: Octavo) -> None:
    assert "Traceback" not in octavo("pull", "smolm2").err
    assert "Traceback" in octavo("pull", "smolm2", "--debug").err


@pytest.mark.parametrize("name", ["startup"])
def test_benchmarks_that_are_not_built(octavo: Octavo, name: str) -> None:
    result = octavo("bench", name, "--base-url", "http://x", "y")
    assert result.code == 2
    assert f"octavo bench {name} is not built yet" in result.err


def test_main_exits() -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--nothing"])
    assert exit.value.code == 2


def test_starting_brings_in_nothing_heavy() -> None:
    check = (
        "import sys; from octavo.cli.main import run; code = run(['--help']);"
        "heavy = {'torch', 'numpy', 'fastapi', 'tokenizers', 'huggingface_hub', 'zmq'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr


def test_pull_prints_the_path(octavo: Octavo, tmp_path: Path) -> None:
    assert octavo("pull", str(tmp_path)).out == f"{tmp_path}\n"


def test_models(octavo: Octavo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
    text = octavo("models").out
    assert "smollm2 (default)" in text
    assert "LlamaForCausalLM" in text
    assert "Q4_K" in text
    listed = json.loads(octavo("models", "--json").out)
    assert [alias["is_cached"] for alias in listed["aliases"]] == [False] * len(listed["aliases"])
    assert listed["families"][0]["architectures"] == ["LlamaForCausalLM"]
