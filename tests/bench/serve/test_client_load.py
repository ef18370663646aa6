"""Whether the client was the limit."""

import asyncio
import time
from typing import Any

import pytest

from octavo.bench.serve.client_load import ClientLimit, ClientLoad, ClientMeter, client_warnings


def load(**changes: float) -> ClientLoad:
    fields = {"cpu_s": 1.0, "core_share": 0.1, "machine_share": 0.05, "lag_p99_s": 0.001, "lateness_p99_s": 0.001}
    return ClientLoad(**{**fields, **changes})


def limits(client: ClientLoad, *, median_itl_s: float | None = 0.01, shares_machine: bool = True) -> list[ClientLimit]:
    return [
        warning.limit for warning in client_warnings(client, median_itl_s=median_itl_s, shares_machine=shares_machine)
    ]


def test_a_client_at_ease_is_not_warned_of() -> None:
    assert limits(load()) == []


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"core_share": 0.6}, ClientLimit.CORE),
        ({"machine_share": 0.2}, ClientLimit.MACHINE),
        ({"lag_p99_s": 0.006}, ClientLimit.EVENT_LOOP),
        ({"lateness_p99_s": 0.02}, ClientLimit.LATE_ARRIVALS),
    ],
)
def test_each_limit(changes: dict[str, float], limit: ClientLimit) -> None:
    [warning] = client_warnings(load(**changes), median_itl_s=0.01, shares_machine=True)
    assert warning.limit is limit
    assert warning.value == next(iter(changes.values())) > warning.allowed
    assert ";" in warning.message  # what, and what to do


def test_cpu_time_on_another_machine_is_not_the_servers_loss() -> None:
    assert limits(load(machine_share=0.2), shares_machine=False) == []


def test_lag_counts_against_the_latency_that_is_measured() -> None:
    assert limits(load(lag_p99_s=0.02), median_itl_s=0.1) == []
    assert limits(load(lag_p99_s=0.02), median_itl_s=0.03) == [ClientLimit.EVENT_LOOP]
    assert limits(load(lag_p99_s=0.02), median_itl_s=None) == [ClientLimit.EVENT_LOOP]


def test_the_meter_sees_a_busy_event_loop() -> None:
    async def measure(busy_s: float) -> ClientLoad:
        meter = ClientMeter()
        meter.start()
        await asyncio.sleep(0)
        end_s = time.perf_counter() + busy_s
        while time.perf_counter() < end_s:
            pass
        await asyncio.sleep(0.03)
        return await meter.stop([0.0, 0.5])

    async def both() -> Any:
        return await measure(0.1)

    busy = asyncio.run(both())
    assert busy.lag_p99_s > 0.05
    assert busy.cpu_s > 0.01
    assert busy.core_share == pytest.approx(busy.machine_share * _num_cores())
    assert busy.lateness_p99_s == pytest.approx(0.495)


def _num_cores() -> int:
    import os

    return len(os.sched_getaffinity(0))
