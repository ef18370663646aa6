"""What every worker shares: commands as JSON lines on stdin, answers on stdout; the engine's own output goes to stderr.

    {"command": "load", "model": path, "threads": n, "max_len": tokens, "max_batch": requests, "cache_bytes": n,
     "options": {…}} → the fields of `About`
    {"command": "run", "prompts": [[id, …], …], "output_len": tokens} → the fields of `Run`
    {"command": "rss"} → {"peak_bytes": n}, the most that was resident since the start, in this process and its children
    {"command": "quit"}

A failure is answered as {"error": "Type: what"}. Engines are imported by `load`, so that a start's time has them in it.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Run(NamedTuple):
    first_s: float
    """From the start until every request has its first token."""
    total_s: float
    """From the start until every request has its last."""
    token_ids: list[list[int]]
    """That came, a list each prompt."""


class About(NamedTuple):
    versions: dict[str, str]
    """Of everything whose speed is measured."""
    settings: dict[str, Any]
    """That bear on speed, as they are in the end; and the instruction sets it says it uses."""
    arithmetic: str
    """The fastest type it may multiply in, whose peak bounds it: fp32, bf16, int8."""


class Engine(Protocol):
    def about(self) -> About: ...

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        """Greedily, past the end token, `output_len` tokens for each prompt."""


def serve(load: Callable[..., Engine]) -> None:
    """Answer commands until the end of stdin. `load` gets the fields of the command."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine: Engine | None = None
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        answer: dict[str, Any] = {}
        try:
            if command == "load":
                engine = load(**request)
                answer = engine.about()._asdict()
            elif command == "run":
                assert engine is not None, "load comes first"
                answer = engine.run(**request)._asdict()
                _check(answer["token_ids"], request)
            elif command == "rss":
                answer = {"peak_bytes": peak_bytes()}
            elif command == "quit":
                break
        except Exception as error:  # noqa: BLE001 — whatever the engine raises is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def _check(token_ids: Sequence[Sequence[int]], request: dict[str, Any]) -> None:
    counts = [len(each) for each in token_ids]
    if counts != [request["output_len"]] * len(request["prompts"]):
        raise RuntimeError(f"{request['output_len']} tokens a prompt were asked for, {counts} came")


def peak_bytes() -> int:
    """VmHWM of this process and of its living descendants, summed."""
    total, pending = 0, [os.getpid()]
    while pending:
        pid = pending.pop()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            pending += [int(child) for child in (task / "children").read_text().split()]
    return total
