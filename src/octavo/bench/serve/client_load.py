"""What a run cost the client, and whether the client was what limited it."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.core.strenum import StrEnum
from octavo.server.event_loop_probe import EventLoopProbe

MAX_CORE_SHARE = 0.5
"""One event loop: busier than this, a chunk often waits for another."""
MAX_MACHINE_SHARE = 0.1
"""Of a machine that the server shares."""
MAX_LATENESS_S = 0.01
MIN_LAG_LIMIT_S = 0.005
LAG_SHARE_OF_ITL = 0.5


class ClientLimit(StrEnum):
    """In which way the client was the limit."""

    CORE = "core"
    MACHINE = "machine"
    EVENT_LOOP = "event-loop"
    LATE_ARRIVALS = "late-arrivals"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWarning:
    """A figure of the client beyond its limit; both in the unit of `ClientLoad`'s field."""

    limit: ClientLimit
    value: float
    allowed: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLoad:
    cpu_s: float
    core_share: float
    """CPU time over the duration: 1.0 is one core."""
    machine_share: float
    """The same over all cores that the client may use."""
    lag_p99_s: float
    """How late the event loop wakes who sleeps: by as much an arrival may be noted too late."""
    lateness_p99_s: float
    """How late requests were begun against their times."""


class ClientMeter:
    """Measures between `start` and `stop`."""

    def __init__(self) -> None:
        self._lags_s: list[float] = []
        self._probe = EventLoopProbe()
        self._probe.observe = self._lags_s.append

    def start(self) -> None:
        self._cpu_s, self._start_s = time.process_time(), time.perf_counter()
        self._task = asyncio.create_task(self._probe.run())

    async def stop(self, lateness_s: Sequence[float]) -> ClientLoad:
        cpu_s = time.process_time() - self._cpu_s
        core_share = cpu_s / max(time.perf_counter() - self._start_s, 1e-9)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return ClientLoad(
            cpu_s=cpu_s,
            core_share=core_share,
            machine_share=core_share / len(os.sched_getaffinity(0)),
            lag_p99_s=_p99(self._lags_s),
            lateness_p99_s=_p99(lateness_s),
        )


def client_warnings(load: ClientLoad, *, median_itl_s: float | None, shares_machine: bool) -> list[ClientWarning]:
    """Where the client distorts what it measures; `shares_machine`: the server runs on the same one."""
    max_lag_s = max(MIN_LAG_LIMIT_S, LAG_SHARE_OF_ITL * (median_itl_s or 0.0))
    machine_share = load.machine_share if shares_machine else 0.0
    checks = [
        ClientWarning(
            limit=ClientLimit.CORE,
            value=load.core_share,
            allowed=MAX_CORE_SHARE,
            message=f"the client kept a core busy for {load.core_share:.0%} of the time (limit {MAX_CORE_SHARE:.0%}), so "
            "it may have read chunks late; send less, or from several clients",
        ),
        ClientWarning(
            limit=ClientLimit.MACHINE,
            value=machine_share,
            allowed=MAX_MACHINE_SHARE,
            message=f"the client took {machine_share:.0%} of the machine that the server runs on (limit "
            f"{MAX_MACHINE_SHARE:.0%}), which the server lacked; measure from another machine",
        ),
        ClientWarning(
            limit=ClientLimit.EVENT_LOOP,
            value=load.lag_p99_s,
            allowed=max_lag_s,
            message=f"the client's event loop woke up to {_ms(load.lag_p99_s)} late (P99; limit {_ms(max_lag_s)}), so "
            "times are that inexact; leave the client a core, or measure from another machine",
        ),
        ClientWarning(
            limit=ClientLimit.LATE_ARRIVALS,
            value=load.lateness_p99_s,
            allowed=MAX_LATENESS_S,
            message=f"requests were begun up to {_ms(load.lateness_p99_s)} late (P99; limit {_ms(MAX_LATENESS_S)}), so the "
            "load was not the one asked for; lower the rate, or send from several clients",
        ),
    ]
    return [check for check in checks if check.value > check.allowed]


def _p99(samples: Sequence[float]) -> float:
    return float(np.percentile(samples, 99)) if len(samples) else 0.0


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
