"""The house's rules, read from the source: who may import whom, and what may not be there at all."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source import SOURCE, imported, modules

FLOORS = [
    "cli",
    "bench",
    "server",
    "engine",
    "scheduler",
    "worker",
    "models",
    "sampling",
    "loader",
    "tokenizer",
    "layers",
    "quantization",
    "cache",
    "ops",
    "config",
    "core",
]
"""Top to bottom; imports point only downward. `loader` names parameters of `layers`' weights, so it stands above."""

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "transformers", "tensorflow"}


def floor(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downward(path: Path) -> None:
    own = floor(path)
    if own is None:
        return
    assert own in FLOORS, f"{own} has no floor"
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "octavo" and len(parts) > 1 and parts[1] in FLOORS:
            assert FLOORS.index(parts[1]) >= FLOORS.index(own), f"{own} imports {name} from a floor above"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_that_runs_foreign_code(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for name in imported(tree):
        assert name.split(".")[0] not in FORBIDDEN_MODULES, f"imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS), ast.unparse(node)
            assert ast.unparse(node.func) != "torch.load", ast.unparse(node)


def test_no_test_module_is_a_library() -> None:
    """What tests share is in modules of its own, which do not bring their tests along."""
    root = SOURCE.parents[1]
    files = [*(root / "tests").rglob("*.py"), *(root / "bench").rglob("*.py")]
    assert len(files) > 200
    for path in files:
        assert not re.findall(r"^\s*(?:from|import) .*\btest_.*", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_environment_is_read_in_one_file(path: Path) -> None:
    if path == SOURCE / "config" / "env.py":
        return
    source = path.read_text()
    assert "os.getenv" not in source
    assert "os.environ[" not in source
    assert "os.environ.get" not in source


@pytest.mark.parametrize(
    "package",
    [
        "octavo",
        "octavo.core",
        "octavo.config",
        "octavo.cache",
        "octavo.scheduler",
        "octavo.tokenizer.tokenizer",
        "octavo.cli.main",
        "octavo.server",
    ],
)
def test_starts_without_torch(package: str) -> None:
    """The scheduler and the cache are plain Python; the command line answers before torch could be imported."""
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_level_mutable_state(path: Path) -> None:
    """A lower-case name bound to a list, dict or set at module level would be shared state."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.List, ast.Dict, ast.Set)):
            for target in node.targets:
                name = ast.unparse(target)
                assert name.strip("_").isupper() or name == "__all__", f"{name} is mutable module state"
