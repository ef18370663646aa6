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
        self.url = self._wait_until_ready()
        self._reader = threading.Thread(target=self._read_on, daemon=True)
        self._reader.start()

    def _wait_until_ready(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r" at (http://\S+)/v1 ", line)
            if found:
                return found[1]
        raise AssertionError("the server did not start:\n" + "".join(self.lines))

    def _read_on(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def join(self) -> None:
        """Wait until all that it wrote has been read."""
        self._reader.join(10)

    def engine_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        [pid] = [
            int(child) for child in children if b"octavo.engine.process" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        return pid

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
