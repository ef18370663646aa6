"""Servers under the same load in turn, by `octavo bench serve`, and what others used of the CPU meanwhile."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers.client import cpu_s, machine_cpu_s
from peers.groups import Engine
from peers.measure import SETTLE_S, say
from peers.servers import RunningServer, ServerError

GOODPUT = ("ttft:500", "tpot:50")
FIXED = ("--prompt-form", "token-ids", "--goodput", *GOODPUT, "--json", "-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    name: str
    arrival: tuple[str, ...]
    num_prompts: int
    num_warmup: int
    """In every round: as many as will be in flight, so that nothing is touched for the first time while it is measured."""
    input_len: int = 128
    output_len: int = 128

    def options(self, vocab_size: int, seed: int) -> list[str]:
        lengths = ["--input-len", str(self.input_len), "--output-len", str(self.output_len)]
        amount = ["--num-prompts", str(self.num_prompts), "--vocab-size", str(vocab_size), "--seed", str(seed)]
        warmup = ["--warmup", str(self.num_warmup)]
        return [*self.arrival, *lengths, *amount, *warmup, *FIXED]


LOADS: Mapping[str, Load] = {
    "closed1": Load(name="1 client", arrival=("--arrival", "closed", "--clients", "1"), num_prompts=16, num_warmup=2),
    "closed8": Load(name="8 clients", arrival=("--arrival", "closed", "--clients", "8"), num_prompts=64, num_warmup=8),
    "closed32": Load(
        name="32 clients", arrival=("--arrival", "closed", "--clients", "32"), num_prompts=128, num_warmup=32
    ),
    "poisson": Load(
        name="Poisson, 2 requests/s",
        arrival=("--arrival", "poisson", "--request-rate", "2"),
        num_prompts=64,
        num_warmup=8,
    ),
}
QUICK_LOADS: Mapping[str, Load] = {
    "closed2": Load(
        name="2 clients",
        arrival=("--arrival", "closed", "--clients", "2"),
        num_prompts=4,
        num_warmup=2,
        input_len=16,
        output_len=8,
    ),
    "poisson": Load(
        name="Poisson, 8 requests/s",
        arrival=("--arrival", "poisson", "--request-rate", "8"),
        num_prompts=4,
        num_warmup=2,
        input_len=16,
        output_len=8,
    ),
}


@dataclass(slots=True)
class ServerRecord:
    """Of one server."""

    command: list[str] = field(default_factory=list)
    refused: str | None = None
    rounds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By load: the JSON of `octavo bench serve` without its single requests, and `foreign_cores`."""


def measure_servers(
    engines: Mapping[str, Engine],
    loads: Mapping[str, Load],
    *,
    vocab_size: int,
    rounds: int,
    threads: int,
    log_directory: Path,
) -> dict[str, ServerRecord]:
    """All servers are up, and each in its turn has the load; the others wait for a request."""
    records = {key: ServerRecord() for key in engines}
    servers: dict[str, RunningServer] = {}
    with ExitStack() as stack:
        for key, engine in engines.items():
            say(f"start {engine.name}")
            with _refusal_kept(records[key]):
                log = stack.enter_context((log_directory / f"serve-{key}.log").open("w"))
                servers[key] = RunningServer(engine, threads, log)
                stack.callback(servers[key].close)
                records[key].command = servers[key].command
        for name, load in loads.items():
            for number in range(rounds):
                for key, server in servers.items():
                    if records[key].refused is None:
                        with _refusal_kept(records[key]):
                            one = _measure(server, load.options(vocab_size, seed=number))
                            records[key].rounds.setdefault(name, []).append(one)
                say(f"{load.name}: round {number + 1} of {rounds}")
    return records


@contextmanager
def _refusal_kept(record: ServerRecord) -> Iterator[None]:
    try:
        yield
    except ServerError as error:
        record.refused = str(error)
        say(f"refused: {error}")


def _measure(server: RunningServer, options: list[str]) -> dict[str, Any]:
    """One run of the client, with the cores that neither it nor the server used. Raises `ServerError`."""
    time.sleep(SETTLE_S)
    start, machine, own = time.monotonic(), machine_cpu_s(), cpu_s(server.pid) + _client_cpu_s()
    command = [sys.executable, "-m", "octavo.cli", "bench", "serve", server.url, *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    used_s = machine_cpu_s() - machine - (cpu_s(server.pid) + _client_cpu_s() - own)
    if not result.stdout:
        raise ServerError((result.stderr.strip().splitlines() or [f"the client ended with {result.returncode}"])[-1])
    report: dict[str, Any] = json.loads(result.stdout)
    del report["requests"]
    return {**report, "foreign_cores": round(max(0.0, used_s / (time.monotonic() - start)), 3)}


def _client_cpu_s() -> float:
    """Of this process and the clients that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
