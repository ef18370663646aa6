"""Ten minutes of a busy engine, replayed in seconds: what the page holds, and how often it draws."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
import pytest
from browser.chromium import Browser
from server.conftest import SocketServer, listening, make_server_context
from server.fake_engine import FakeEngine

from octavo.server.dashboard.viewers import HEARTBEAT

NUM_EVENTS = 2400
NUM_BEFORE = 300
"""More than the page keeps of anything: from here on nothing may grow."""
MIB = 1 << 20


def snapshot(number: int, first: dict[str, Any]) -> dict[str, Any]:
    """Of an engine with a large pool and 40 steps a second; no two are alike."""
    rng = random.Random(number)
    steps = range(max(1, 10 * number - 63), 10 * number + 1)
    return first | {
        "id": number,
        "step": 10 * number,
        "num_running": rng.randrange(1, 257),
        "throughput": {"generated": rng.uniform(0, 900), "prefilled": rng.uniform(0, 4000)},
        "blocks": first["blocks"] | {"cells": "".join(rng.choices("fcps", k=4096))},
        "steps": {
            "step": list(steps),
            "decode_tokens": [rng.randrange(64) for _ in steps],
            "prefill_tokens": [rng.randrange(512) for _ in steps],
            "requests": [rng.randrange(64) for _ in steps],
            "step_ms": [rng.uniform(5, 90) for _ in steps],
        },
    }


class ReplayServer(SocketServer):
    """Its dashboard stream is a script: some events, and the others when a test says so."""

    def __init__(self) -> None:
        super().__init__(FakeEngine)
        self.is_let = threading.Event()

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        context = make_server_context(FakeEngine())
        first = msgspec.json.decode(context.live.ring.newest.data)

        async def replay(last_event_id: str) -> AsyncGenerator[bytes, None]:
            for number in range(1, NUM_EVENTS + 1):
                while number > NUM_BEFORE and not self.is_let.is_set():
                    yield HEARTBEAT
                    await asyncio.sleep(0.05)
                yield b"id: x:%d\ndata: %b\n\n" % (number, msgspec.json.encode(snapshot(number, first)))
            while True:
                yield HEARTBEAT
                await asyncio.sleep(0.5)

        context.live.viewers.events = replay  # type: ignore[method-assign]
        async with listening(context) as (self.url, _, _):
            self._ready.set()
            await self._done.wait()


@pytest.fixture
def replaying() -> Iterator[ReplayServer]:
    with ReplayServer() as running:
        yield running


def memory(browser: Browser) -> dict[str, float]:
    """The tab's, after garbage was collected."""
    for _ in range(3):
        browser.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}


def test_ten_minutes_leave_nothing_behind_and_are_drawn_four_times_a_second(
    browser: Browser, replaying: ReplayServer
) -> None:
    browser.driver.execute_cdp_cmd("Performance.enable", {})
    browser.open(f"{replaying.url}/dashboard")
    browser.find("summary").click()
    shown = lambda number: browser.text("[data-figure=step]") == f"{10 * number:,}"  # noqa: E731
    browser.until(lambda: shown(NUM_BEFORE), "the first minute")
    before = memory(browser)
    browser.run(
        """
        const clear = CanvasRenderingContext2D.prototype.clearRect;
        window.numCleared = 0;
        CanvasRenderingContext2D.prototype.clearRect = function (...area) { window.numCleared++; clear.apply(this, area); };
        """
    )
    begin_s = time.monotonic()
    replaying.is_let.set()
    browser.until(lambda: shown(NUM_EVENTS), "the last minute")
    seconds = time.monotonic() - begin_s
    num_drawn = browser.run("return window.numCleared") / 3
    after = memory(browser)
    browser.driver.get("about:blank")  # before the server ends
    assert 1 <= num_drawn <= 4 * seconds + 2
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < MIB
    assert after["Nodes"] <= before["Nodes"] + 16
    assert after["JSEventListeners"] <= before["JSEventListeners"]
