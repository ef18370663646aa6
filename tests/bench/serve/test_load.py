"""Requests sent at their times, so many at once, until they end or someone stops it."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from octavo.bench.serve.load import Load, LoadRun, RunClock
from octavo.bench.serve.record import RequestRecord


class Service:
    """Answers when it is told to; knows how many it has at once."""

    def __init__(self) -> None:
        self.open: dict[int, asyncio.Event] = {}
        self.order: list[int] = []
        self.most_open = 0
        self.changed = asyncio.Event()

    async def send(self, number: int, record: RequestRecord) -> None:
        self.order.append(number)
        self.open[number] = asyncio.Event()
        self.most_open = max(self.most_open, len(self.open))
        self.changed.set()
        try:
            await self.open[number].wait()
            record.is_finished = True
        finally:
            del self.open[number]
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 5)

    def load(self, times: Sequence[float], max_in_flight: int | None) -> Load:
        return Load(send=self.send, times=times, max_in_flight=max_in_flight, clock=RunClock())


def test_a_closed_loop_has_so_many_in_flight_and_keeps_the_order() -> None:
    async def main() -> LoadRun:
        service = Service()
        task = asyncio.create_task(service.load([0.0] * 7, 3).run(asyncio.Event()))
        for number in range(7):
            await service.until(lambda number=number: number in service.open)
            service.open[number].set()
        run = await task
        assert service.most_open == 3
        assert service.order == list(range(7))
        return run

    run = asyncio.run(main())
    assert len(run.records) == 7
    assert all(record.is_finished for record in run.records)
    assert run.num_unsent == 0
    assert run.duration_s > 0


def test_an_open_loop_does_not_wait_for_answers() -> None:
    async def main() -> None:
        service = Service()
        load = service.load([0.0, 0.001, 0.02], None)
        task = asyncio.create_task(load.run(asyncio.Event()))
        await service.until(lambda: len(service.open) == 3)
        for event in list(service.open.values()):
            event.set()
        run = await task
        assert [record.scheduled_s for record in run.records] == [0.0, 0.001, 0.02]
        assert all(record.released_s >= record.scheduled_s for record in run.records)
        assert run.client.lateness_p99_s >= 0

    asyncio.run(main())


def test_a_stop_leaves_what_is_in_flight_unfinished_and_the_rest_unsent() -> None:
    async def main() -> LoadRun:
        service, stop = Service(), asyncio.Event()
        task = asyncio.create_task(service.load([0.0, 0.0, 3600.0], None).run(stop))
        await service.until(lambda: len(service.open) == 2)
        service.open[0].set()
        await service.until(lambda: len(service.open) == 1)
        stop.set()
        run = await task
        assert service.open == {}
        return run

    run = asyncio.run(main())
    assert [record.is_finished for record in run.records] == [True, False]
    assert run.num_unsent == 1
    assert run.duration_s < 3600


def test_each_end_is_told() -> None:
    async def main() -> None:
        told: list[RequestRecord] = []

        async def send(number: int, record: RequestRecord) -> None:
            record.is_finished = True

        load = Load(send=send, times=[0.0] * 4, max_in_flight=2, clock=RunClock(), on_done=told.append)
        run = await load.run(asyncio.Event())
        assert told == run.records

    asyncio.run(main())


def test_a_defect_of_the_client_is_not_hidden() -> None:
    async def send(number: int, record: RequestRecord) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(Load(send=send, times=[0.0], max_in_flight=None, clock=RunClock()).run(asyncio.Event()))
