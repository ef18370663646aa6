"""Figure 6: ten times more requests than there is capacity for: all end, refusals are quick, as much gets done."""

import asyncio
import random
import time

from bodies import words
from client import COMPLETIONS, Client, lean_post, serving
from finding import Effort, Finding, percentile

SEATS, QUEUE = 16, 16
FACTOR = 10
MAX_REJECT_S = 0.1
MIN_GOODPUT = 0.9
_BODY = {"max_tokens": 128, "ignore_eos": True, "temperature": 0}


async def _ask(client: Client, rng: random.Random) -> tuple[int, float, float]:
    """Status, when it ended, and how long it took."""
    start_s = time.monotonic()
    status = await lean_post(client.served.url, COMPLETIONS, {**_BODY, "prompt": words(rng, 20)})
    end_s = time.monotonic()
    return status, end_s, end_s - start_s


async def _peak(client: Client, seconds: float) -> float:
    """Requests a second, where there are always as many as seats and places in the queue."""
    rng, ends_s, start_s = random.Random(1), [], time.monotonic()

    async def act() -> None:
        while time.monotonic() - start_s < seconds:
            status, end_s, _ = await _ask(client, rng)
            assert status == 200, status
            ends_s.append(end_s)

    await asyncio.gather(*(act() for _ in range(SEATS + QUEUE)))
    return _rate(ends_s, start_s, seconds)


def _rate(ends_s: list[float], start_s: float, seconds: float) -> float:
    """A second, of the last three quarters of the time: the first is warm-up."""
    first_s = start_s + seconds / 4
    return sum(first_s <= end_s < start_s + seconds for end_s in ends_s) / (seconds * 3 / 4)


def measure(effort: Effort) -> Finding:
    seconds = effort.of(120, 8)

    async def main() -> Finding:
        options = ("--max-num-seqs", str(SEATS), "--max-num-queued-reqs", str(QUEUE), "--kv-cache-memory", "512M")
        async with serving(*options) as client:
            peak = await _peak(client, seconds)
            rng, tasks, start_s = random.Random(2), [], time.monotonic()
            while (at_s := time.monotonic() - start_s) < seconds:
                while len(tasks) < at_s * peak * FACTOR:
                    tasks.append(asyncio.create_task(_ask(client, rng)))
                await asyncio.sleep(0.01)
            replies = await asyncio.gather(*tasks)
        goodput = _rate([end_s for status, end_s, _ in replies if status == 200], start_s, seconds)
        rejects_s = [took_s for status, _, took_s in replies if status == 503]
        statuses = {str(status) for status, _, _ in replies}
        return Finding(
            asked="10× capacity: every request ends, rejects ≤ 100 ms, goodput ≥ 90% of peak",
            measured={
                "requests": len(replies),
                "statuses": sorted(statuses),
                "peak_requests_per_s": round(peak, 2),
                "goodput_of_peak": round(goodput / peak, 3),
                "rejects": len(rejects_s),
                "reject_p50_ms": round(percentile(rejects_s, 50) * 1e3, 1),
                "reject_p99_ms": round(percentile(rejects_s, 99) * 1e3, 1),
                "reject_max_ms": round(max(rejects_s) * 1e3, 1),
            },
            is_met=statuses == {"200", "503"} and max(rejects_s) <= MAX_REJECT_S and goodput >= MIN_GOODPUT * peak,
        )

    return asyncio.run(main())
