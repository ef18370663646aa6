"""A run: requests sent at their times, with no more than so many in flight, until they end or someone stops it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from octavo.bench.serve.client_load import ClientLoad, ClientMeter
from octavo.bench.serve.record import RequestRecord


class RunClock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()

    def restart(self) -> None:
        self._start_s = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRun:
    """All requests that were begun, in the order of their times, and what they cost the client."""

    records: list[RequestRecord]
    num_unsent: int
    """Not begun when the run was stopped."""
    duration_s: float
    client: ClientLoad


@dataclass(slots=True, kw_only=True)
class Load:
    """Sends request number i, by `send(i, record)`, at `times[i]`."""

    send: Callable[[int, RequestRecord], Awaitable[None]]
    times: Sequence[float]
    max_in_flight: int | None
    clock: RunClock
    on_done: Callable[[RequestRecord], None] = lambda record: None

    async def run(self, stop: asyncio.Event) -> LoadRun:
        """Until every request has ended, or `stop` is set: what is in flight then stays unfinished."""
        records: list[RequestRecord] = []
        meter = ClientMeter()
        meter.start()
        self.clock.restart()
        work = asyncio.create_task(self._work(records))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            duration_s = self.clock()
            client = await meter.stop([record.released_s - record.scheduled_s for record in records])
            stopped.cancel()
            await _cancelled(work)
        return LoadRun(records=records, num_unsent=len(self.times) - len(records), duration_s=duration_s, client=client)

    async def _work(self, records: list[RequestRecord]) -> None:
        places = asyncio.Semaphore(len(self.times) if self.max_in_flight is None else self.max_in_flight)
        tasks: list[asyncio.Task[None]] = []
        try:
            for number, due_s in enumerate(self.times):
                if (wait_s := due_s - self.clock()) > 0:
                    await asyncio.sleep(wait_s)
                record = RequestRecord(scheduled_s=due_s, released_s=self.clock())
                records.append(record)
                tasks.append(asyncio.create_task(self._request(number, record, places)))
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _request(self, number: int, record: RequestRecord, places: asyncio.Semaphore) -> None:
        async with places:
            await self.send(number, record)
        self.on_done(record)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """End it; an error of its own is raised."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
