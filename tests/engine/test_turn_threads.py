"""Threads that clients take turns at."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from octavo.core.errors import ShuttingDownError
from octavo.engine.turn_threads import TurnThreads


class Bench:
    """One thread, held by its first job until `may_go_on`, and a log of what ran."""

    def __init__(self) -> None:
        self.threads = TurnThreads(1, "test")
        self.ran: list[str] = []
        self.may_go_on = threading.Event()

    def ask(self, client: str, name: str) -> "asyncio.Task[str]":
        return asyncio.create_task(self.threads.run(client, lambda: self._work(name)))

    def _work(self, name: str) -> str:
        assert self.may_go_on.wait(10)
        self.ran.append(name)
        if name == "bad":
            raise ValueError(name)
        return name


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            await scenario(bench)
        finally:
            bench.may_go_on.set()
            bench.threads.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_one_job_waits_behind_one_of_each_other_client_at_most() -> None:
    async def scenario(bench: Bench) -> None:
        tasks = [bench.ask("greedy", f"greedy {index}") for index in range(6)]
        tasks += [bench.ask("a", "a 0"), bench.ask("a", "a 1"), bench.ask("b", "b 0")]
        await asyncio.sleep(0)
        assert bench.threads.num_jobs == len(tasks)
        bench.may_go_on.set()
        results = await asyncio.gather(*tasks)
        assert results == [*(f"greedy {index}" for index in range(6)), "a 0", "a 1", "b 0"]
        assert bench.ran[:5] == ["greedy 0", "a 0", "b 0", "greedy 1", "a 1"]
        assert bench.ran[5:] == ["greedy 2", "greedy 3", "greedy 4", "greedy 5"]
        assert bench.threads.num_jobs == 0

    run(scenario)


def test_who_waits_no_longer_costs_nothing_and_who_runs_keeps_its_thread() -> None:
    async def scenario(bench: Bench) -> None:
        running, waiting, last = bench.ask("a", "running"), bench.ask("a", "waiting"), bench.ask("b", "last")
        await asyncio.sleep(0)
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert bench.ran == [] and bench.threads.num_jobs == 1
        bench.may_go_on.set()
        assert await last == "last"
        assert bench.ran == ["running", "last"]

    run(scenario)


def test_a_job_that_fails_fails_alone() -> None:
    async def scenario(bench: Bench) -> None:
        bench.may_go_on.set()
        bad, good = bench.ask("a", "bad"), bench.ask("a", "good")
        with pytest.raises(ValueError, match="bad"):
            await bad
        assert await good == "good"

    run(scenario)


def test_closing_tells_who_waits_and_who_comes_later() -> None:
    async def scenario(bench: Bench) -> None:
        running, waiting = bench.ask("a", "running"), bench.ask("a", "waiting")
        await asyncio.sleep(0)
        bench.threads.close()
        with pytest.raises(ShuttingDownError):
            await waiting
        with pytest.raises(ShuttingDownError):
            await bench.ask("b", "late")
        bench.may_go_on.set()
        assert await running == "running"
        assert bench.ran == ["running"]

    run(scenario)
