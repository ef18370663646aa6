"""What the live dashboard costs: its part of a step at 32 requests, and the throughput with and without a viewer.

    python bench/dashboard_cost.py [--json bench/results/dashboard-cost.json] [--model smollm2] [--requests 32]

First the engine decodes in this process, and what is done for the dashboard is timed by a clock around each of its functions:
in the engine's process (what a step did, the map of the KV blocks behind some steps), which steps wait for, and in the
server's (notes of each step and token, snapshots, one viewer's events), which runs beside them. The byte that the pool
writes where a block changes hands is not seen apart. Then the map alone, by size of the pool. Last, clients of `octavo
bench serve` load a real server, in turn without and with a viewer.
"""

import argparse
import contextlib
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from peers.groups import GROUPS
from peers.servers import RunningServer
from timing import summary, timed

from octavo.bench.circumstances import circumstances
from octavo.bench.techniques.stepping import SteppedEngine
from octavo.cache import BlockPool
from octavo.cache.block_map import map_blocks, map_unused
from octavo.config import EngineConfig
from octavo.core.messages import BlockMap, OutputBatch
from octavo.engine.block_maps import MAP_PERIOD_S, MAX_SHARE, BlockMaps
from octavo.engine.build import build_engine
from octavo.engine.core import EngineCore
from octavo.engine.info import EngineInfo
from octavo.engine.liveness import EngineState
from octavo.engine.wire import Blocks, encoder, from_engine_decoder
from octavo.scheduler.step import Step
from octavo.server.dashboard.live_view import PERIOD_S, LiveView
from octavo.server.metrics import RECENT_REQUESTS, RECENT_TOKENS
from octavo.server.recent_times import RecentTimes

WARM_UP = 10
POOL_SIZES = (256, 4096, 65_536, 524_288)
Result = TypeVar("Result")


class Stopwatch:
    """Adds up the time of the functions that are put under it."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def around(self, function: Callable[..., Result]) -> Callable[..., Result]:
        def watched(*arguments: Any, **options: Any) -> Result:
            begin_s = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._seconds += time.perf_counter() - begin_s

        return watched

    def take(self) -> float:
        """The seconds since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class WatchedEngine:
    """As much of an `AsyncEngine` as a view follows."""

    state = EngineState.RUNNING

    def __init__(self, info: EngineInfo) -> None:
        self.info = info
        self.block_map = map_unused(info.num_blocks)

    def subscribe(self, observer: Callable[..., None]) -> None:
        self.observe = observer


class ServerPart:
    """What the server does for the dashboard with each step, by the functions that do it there."""

    def __init__(self, info: EngineInfo) -> None:
        self._engine: Any = WatchedEngine(info)
        self._ttft, self._itl = RecentTimes(RECENT_REQUESTS), RecentTimes(RECENT_TOKENS)
        self._view = LiveView(self._engine, info.model, self._ttft, self._itl)
        self._due_s = 0.0
        self._reading = Stopwatch()

    def take_map(self, block_map: BlockMap) -> None:
        """As it crosses to the server: writing it counts as the engine's and as the server's, and so does reading it."""
        cross = self._reading.around(lambda: from_engine_decoder.decode(encoder.encode(Blocks(block_map))))
        self._engine.block_map = cross().map

    def take_in(self, batch: OutputBatch, step_s: float) -> float:
        """Seconds that it took, with the map that came before."""
        begin_s = time.perf_counter()
        self._engine.observe(batch, [])
        for _ in batch.events:
            self._itl.add(step_s)
        if begin_s >= self._due_s:
            self._due_s = begin_s + PERIOD_S
            self._view.advance()
            self._view.ring.event(self._view.ring.newest)
        return time.perf_counter() - begin_s + self._reading.take()


def main() -> None:
    arguments = parse_arguments()
    command = shlex.join(["python", "bench/dashboard_cost.py", *sys.argv[1:]])
    report = {"benchmark": "dashboard-cost", **vars(arguments), **circumstances(command)}
    report["step"] = step_cost(arguments)
    print_step(report["step"])
    report["map"] = [map_cost(num_blocks) for num_blocks in POOL_SIZES]
    for row in report["map"]:
        period_s = max(MAP_PERIOD_S, 1e-3 * row["median_ms"] / MAX_SHARE)
        print(f"map of {row['num_blocks']:7,} blocks: {row['median_ms']:.3f} ms, each {period_s:.2f} s")
    report["throughput"] = throughput(arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


def step_cost(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times of decode steps, and of what in and beside each is the dashboard's."""
    core, info = build_engine(EngineConfig(model=arguments.model, max_model_len=2048, kv_cache_memory="1G"))
    engine_watch = Stopwatch()
    Step.work = engine_watch.around(Step.work)  # type: ignore[method-assign]
    server = ServerPart(info)
    maps = BlockMaps(core.scheduler.cache.pool, server.take_map)
    after_step = engine_watch.around(maps.after_step)
    num_steps = WARM_UP + arguments.steps
    add_requests(core, arguments, num_steps)
    while core.scheduler.stats().num_prefill_tokens or not core.scheduler.stats().step:
        core.step()
    times: dict[str, list[float]] = {"step_s": [], "engine_s": [], "server_s": []}
    for _ in range(num_steps):
        engine_watch.take()
        begin_s = time.perf_counter()
        batch = core.step()
        after_step(batch.stats.step)
        step_s = time.perf_counter() - begin_s
        times["step_s"].append(step_s)
        times["engine_s"].append(engine_watch.take())
        times["server_s"].append(server.take_in(batch, step_s))
    core.close()
    measured = {name: seconds[WARM_UP:] for name, seconds in times.items()}
    total_s = sum(measured["step_s"])
    return {
        "num_requests": arguments.requests,
        "num_blocks": info.num_blocks,
        "threads": info.options["threads"],
        "isa": info.isa,
        "step": summary(measured["step_s"]),
        "engine_us_per_step": 1e6 * statistics.mean(measured["engine_s"]),
        "engine_us_worst": 1e6 * max(measured["engine_s"]),
        "engine_share": sum(measured["engine_s"]) / total_s,
        "server_us_per_step": 1e6 * statistics.mean(measured["server_s"]),
        "server_us_worst": 1e6 * max(measured["server_s"]),
        "server_share": sum(measured["server_s"]) / total_s,
    }


def add_requests(core: EngineCore, arguments: argparse.Namespace, num_steps: int) -> None:
    """Prompts that share their first half, and answers that are longer than what is measured."""
    engine = SteppedEngine(core)
    half = arguments.context // 2
    for number in range(arguments.requests):
        rest = range(1000 + number * half, 1000 + (number + 1) * half)
        engine.add([*range(100, 100 + half), *rest], num_steps + arguments.requests + 64)


def print_step(cost: dict[str, Any]) -> None:
    print(f"a step of {cost['num_requests']} requests: {cost['step']['median_ms']:.2f} ms")
    for part in ("engine", "server"):
        print(
            f"  the dashboard's part in the {part}: {cost[f'{part}_us_per_step']:.0f} µs, {cost[f'{part}_share']:.3%}; "
            f"at most {cost[f'{part}_us_worst']:.0f} µs"
        )


def map_cost(num_blocks: int) -> dict[str, Any]:
    """Of a pool half of which is held."""
    pool = BlockPool(num_blocks)
    pool.allocate(num_blocks // 2)
    [times] = timed([lambda: map_blocks(pool, 1)], 0.5)
    return {"num_blocks": num_blocks} | summary(times)


def throughput(arguments: argparse.Namespace) -> dict[str, Any]:
    """Output tokens a second of the same load in turn, without and with a viewer."""
    rounds: dict[str, list[float]] = {"0 viewers": [], "1 viewer": []}
    with tempfile.TemporaryFile("w") as log:
        server = RunningServer(GROUPS["smollm2"]["octavo"], 2, log)
        try:
            for number in range(-1, arguments.rounds):
                for name, watching in (("0 viewers", contextlib.nullcontext()), ("1 viewer", viewer(server.url))):
                    with watching:
                        rate = load(server.url, arguments, seed=2 * (number + 1) + (name == "1 viewer"))
                    if number >= 0:  # the first is to warm up
                        rounds[name].append(rate)
        finally:
            server.close()
    without, with_one = (statistics.median(rates) for rates in rounds.values())
    print(f"{without:.0f} tokens/s without a viewer, {with_one:.0f} with one: {with_one / without:.3f}")
    return {"output_tokens_per_s": rounds, "ratio": with_one / without}


def load(url: str, arguments: argparse.Namespace, seed: int) -> float:
    options = ["--input-len", str(arguments.context), "--output-len", "128", "--seed", str(seed)]
    amount = ["--clients", str(arguments.requests), "--num-prompts", str(4 * arguments.requests), "--json", "-"]
    command = [sys.executable, "-m", "octavo.cli", "bench", "serve", url, *options, *amount]
    rate: float = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[
        "output_tokens_per_s"
    ]
    return rate


@contextlib.contextmanager
def viewer(url: str) -> Iterator[None]:
    """Somebody who watches."""
    is_over = threading.Event()

    def watch() -> None:
        with urllib.request.urlopen(f"{url}/dashboard/events") as reply:
            for _ in reply:
                if is_over.is_set():
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--context", type=int, default=192, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
