"""How long the step loop may be silent before it counts as stalled."""

import asyncio
import logging

import pytest

from octavo.engine import liveness
from octavo.engine.liveness import IDLE_SILENCE_S, Pulse, log_stalls


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("is_busy", "timeout_s", "limit_s"),
    [(True, 120.0, 120.0), (False, 120.0, IDLE_SILENCE_S), (True, 2.0, 2.0), (False, 2.0, 2.0)],
)
def test_a_busy_loop_may_be_silent_for_a_long_step_and_an_idle_one_may_not(
    is_busy: bool, timeout_s: float, limit_s: float
) -> None:
    clock = Clock()
    pulse = Pulse(timeout_s, clock)
    pulse.beat(is_busy=is_busy)
    clock.now_s += limit_s
    assert not pulse.is_stalled and pulse.silence_s == limit_s
    clock.now_s += 0.01
    assert pulse.is_stalled
    pulse.beat(is_busy=is_busy)
    assert not pulse.is_stalled


def test_a_stall_and_its_end_are_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_S", 0.0)
    caplog.set_level(logging.WARNING)
    clock = Clock()
    pulse = Pulse(10.0, clock)

    async def scenario() -> None:
        watching = asyncio.create_task(log_stalls(pulse))
        clock.now_s += 11.0
        for _ in range(5):
            await asyncio.sleep(0)
        pulse.beat(is_busy=False)
        for _ in range(5):
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "11.0 s" in caplog.text
