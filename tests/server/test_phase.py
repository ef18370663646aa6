"""A connection's clock: a deadline for each phase, and none that is left from another."""

import asyncio

from octavo.server.phase import Phase, PhaseClock


def test_a_phase_that_takes_too_long_expires_once_and_no_other() -> None:
    async def run() -> None:
        expired: asyncio.Queue[Phase] = asyncio.Queue()
        clock = PhaseClock({Phase.HEAD: 0.05, Phase.BODY: 0.01}, lambda: expired.put_nowait(clock.phase))
        clock.enter(Phase.BODY)
        clock.enter(Phase.ANSWER)
        clock.enter(Phase.HEAD)
        assert await asyncio.wait_for(expired.get(), 5) is Phase.HEAD
        clock.set_deadline(0.0)
        clock.set_deadline(None)
        clock.enter(Phase.BODY)
        assert await asyncio.wait_for(expired.get(), 5) is Phase.BODY
        assert expired.empty()

    asyncio.run(run())
