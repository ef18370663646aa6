"""Threads for work off the event loop, a turn for each client in turn: nobody waits behind all that another has asked."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from octavo.core.errors import ShuttingDownError
from octavo.core.turns import Turns


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    result: "asyncio.Future[Any]"


class TurnThreads:
    """A client's own jobs run in the order they came. Used from one event loop."""

    def __init__(self, num_threads: int, name: str) -> None:
        self.num_jobs = 0
        """Those that run or wait."""
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._num_free = num_threads
        self._waiting: Turns[_Job] = Turns()
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def run(self, client: str, work: Callable[[], Any]) -> Any:
        """The result of `work`. Cancelled while it waits, it is not begun; once it runs, it is not interrupted.

        Raises `ShuttingDownError`, and what `work` raises.
        """
        if self._is_closed:
            raise ShuttingDownError
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._waiting.put(client, job)
        self.num_jobs += 1
        self._start_next()
        try:
            return await job.result
        finally:
            self.num_jobs -= 1

    def close(self) -> None:
        """Who waits for a turn is told that there will be none; what runs is left to itself. Idempotent."""
        self._is_closed = True
        while self._waiting:
            job = self._waiting.take()
            if not job.result.done():
                job.result.set_exception(ShuttingDownError())
        self._executor.shutdown(wait=False)

    def _start_next(self) -> None:
        while self._num_free and self._waiting:
            job = self._waiting.take()
            if not job.result.done():
                self._num_free -= 1
                loop = asyncio.get_running_loop()
                task = loop.create_task(self._finish(job, loop.run_in_executor(self._executor, job.work)))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _finish(self, job: _Job, running: "asyncio.Future[Any]") -> None:
        """In a task of its own: a thread is free when its work has ended, not when nobody wants it any more."""
        try:
            result = await running
        except Exception as error:  # noqa: BLE001  (it is whoever waits that is told)
            if not job.result.done():
                job.result.set_exception(error)
        else:
            if not job.result.done():
                job.result.set_result(result)
        finally:
            self._num_free += 1
            self._start_next()
