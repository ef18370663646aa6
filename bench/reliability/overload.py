"""Figure 6: ten times more requests than there is capacity for: all end, refusals are quick, as much gets done."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bodies import words
from client import COMPLETIONS, Client, LeanRequest, serving
from finding import Effort, Finding, milliseconds

SEATS, QUEUE = 16, 16
FACTOR = 10
MAX_REJECT_S = 0.1
MIN_GOODPUT = 0.9
_BODY = {"max_tokens": 128, "ignore_eos": True, "temperature": 0}


def _requests(client: Client) -> Iterator[LeanRequest]:
    """For ever, each with a prompt of its own."""
    rng = random.Random(1)
    while True:
        yield LeanRequest(client.served.url, COMPLETIONS, {**_BODY, "prompt": words(rng, 20)})


async def _ask(request: LeanRequest) -> tuple[str, float, float]:
    """Status, when it ended, and how long it took."""
    start_s = time.monotonic()
    status = await request.send()
    end_s = time.monotonic()
    return status, end_s, end_s - start_s


async def _peak(requests: Iterator[LeanRequest], seconds: float) -> float:
    """Requests a second, where there are always as many as seats and places in the queue."""
    ends_s, start_s = [], time.monotonic()

    async def act() -> None:
        while time.monotonic() - start_s < seconds:
            status, end_s, _ = await _ask(next(requests))
            assert status == "200", status
            ends_s.append(end_s)

    await asyncio.gather(*(act() for _ in range(SEATS + QUEUE)))
    return _rate(ends_s, start_s, seconds)


def _rate(ends_s: list[float], start_s: float, seconds: float) -> float:
    """A second, of the last three quarters of the time: the first is warm-up."""
    first_s = start_s + seconds / 4
    return sum(first_s <= end_s < start_s + seconds for end_s in ends_s) / (seconds * 3 / 4)


async def _flood(requests: Iterator[LeanRequest], per_s: float, start_s: float, end_s: float) -> list[Any]:
    """What `_ask` says of all that were sent, evenly, until the end."""
    tasks = []
    while (due_s := start_s + len(tasks) / per_s) < end_s:
        if due_s > time.monotonic():
            await asyncio.sleep(due_s - time.monotonic())
        tasks.append(asyncio.create_task(_ask(next(requests))))
    return await asyncio.gather(*tasks)


def measure(effort: Effort) -> Finding:
    seconds = effort.of(120, 8)

    async def main() -> Finding:
        options = ("--max-num-seqs", str(SEATS), "--max-num-queued-reqs", str(QUEUE), "--kv-cache-memory", "512M")
        async with serving(*options) as client:
            requests = _requests(client)
            peak = await _peak(requests, seconds)
            start_s, own_s = time.monotonic(), time.process_time()
            replies = await _flood(requests, peak * FACTOR, start_s, start_s + seconds)
            own_share = (time.process_time() - own_s) / (time.monotonic() - start_s)
        goodput = _rate([end_s for status, end_s, _ in replies if status == "200"], start_s, seconds)
        rejects_s = [took_s for status, _, took_s in replies if status == "503"]
        statuses = Counter(status for status, _, _ in replies)
        return Finding(
            asked="10× capacity: every request ends, rejects ≤ 100 ms, goodput ≥ 90% of peak",
            measured={
                "requests": len(replies),
                "statuses": dict(statuses),
                "peak_requests_per_s": round(peak, 2),
                "goodput_of_peak": round(goodput / peak, 3),
                "rejects_ms": milliseconds(rejects_s),
                "client_of_a_core": round(own_share, 3),  # its own work must not be what lowers the goodput
            },
            is_met=statuses.keys() == {"200", "503"}
            and max(rejects_s) <= MAX_REJECT_S
            and goodput >= MIN_GOODPUT * peak,
        )

    return asyncio.run(main())
