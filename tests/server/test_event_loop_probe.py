"""The event loop's lag, as its own probe sees it."""

import asyncio
import time

from octavo.server.event_loop_probe import INTERVAL_S, EventLoopProbe

BLOCK_S = 0.1


def test_a_blocked_loop_is_seen_once() -> None:
    async def scenario() -> None:
        probe = EventLoopProbe()
        lags: list[float] = []
        woken = asyncio.Event()
        probe.observe = lambda lag_s: (lags.append(lag_s), woken.set())
        running = asyncio.create_task(probe.run())
        await woken.wait()
        probe.take_max_s()
        woken.clear()
        time.sleep(BLOCK_S)  # what must not happen on an event loop
        await woken.wait()
        assert max(lags) >= BLOCK_S - INTERVAL_S
        assert probe.take_max_s() == max(lags)
        assert probe.take_max_s() == 0.0
        running.cancel()

    asyncio.run(scenario())
