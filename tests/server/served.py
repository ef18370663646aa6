"""`octavo serve` with a small model, as users start it: a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

MODEL = "smollm2"
SOURCE = Path(__file__).parents[2] / "src"
OPTIONS = ("--kv-cache-memory", "96M", "--max-model-len", "1024", "--port", "0", "--threads", "2")
START_S = 120.0
"""What takes longer hangs: reading a model takes seconds."""


class Served:
    """The server's process, from its ready line to its end."""

    def __init__(self, *options: str) -> None:
        path = os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", "")))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "octavo.cli", "serve", MODEL, *OPTIONS, *options],
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.url = ""
        self._has_begun = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._has_begun.wait(START_S) or not self.url:
            self.process.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r" at (http://\S+)/v1 ", line)
            if found and not self.url:
                self.url = found[1]
                self._has_begun.set()
        self._has_begun.set()

    def join(self) -> None:
        """Wait until all that it wrote has been read."""
        self._reader.join(10)

    def children(self) -> dict[str, int]:
        """The processes that it started, by the name of their module."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [pid for task in tasks for pid in task.read_text().split()]
        modules = {int(pid): re.search(rb"octavo\.engine\.(\w+)\0", _command_line(pid)) for pid in pids}
        return {found[1].decode(): pid for pid, found in modules.items() if found}

    def engine_pid(self) -> int:
        return self.children()["process"]

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _command_line(pid: str) -> bytes:
    """Empty for a process that is no more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
