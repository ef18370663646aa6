"""The comparison's end of a worker: a process that is asked in JSON lines, and whose CPU time is known."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class WorkerError(Exception):
    """The engine's answer was an error, typed by its own name; or the process ended."""


class Sample(NamedTuple):
    first_s: float
    total_s: float
    foreign_cores: float
    """Cores that others used meanwhile: all CPU time of the machine less the worker's, over the time."""
    token_ids: list[list[int]]

    @property
    def is_dirty(self) -> bool:
        """Whether others used more than a twentieth of a core, and more than the clock's grain of a few ticks."""
        return self.foreign_cores * self.total_s > 0.05 * self.total_s + 3 / TICKS_PER_S


class Worker:
    def __init__(self, python: Path, script: Path, log: IO[str], threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Raises `WorkerError`."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"].replace(str(Path.home()), "~"))
        return answer

    def run(self, prompts: list[list[int]], output_len: int) -> Sample:
        """Raises `WorkerError`."""
        start, machine, own = time.monotonic(), machine_cpu_s(), cpu_s(self._process.pid)
        answer = self.ask("run", prompts=prompts, output_len=output_len)
        used = machine_cpu_s() - machine - (cpu_s(self._process.pid) - own)
        return Sample(
            answer["first_s"], answer["total_s"], max(0.0, used / (time.monotonic() - start)), answer["token_ids"]
        )

    def close(self) -> None:
        """Ends the process, and does not wait long for it to agree."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()


def machine_cpu_s() -> float:
    """That all processes and the hypervisor's other guests have taken."""
    user, nice, system, _, _, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(others)) / TICKS_PER_S


def cpu_s(pid: int) -> float:
    """Of a process and its living descendants."""
    total, pending = 0, [pid]
    while pending:
        process = Path(f"/proc/{pending.pop()}")
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))  # utime, stime, and those of children that ended
            for task in (process / "task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # ended meanwhile
    return total / TICKS_PER_S
