"""Figure 6: ten times more requests than there is capacity for: all end, refusals are quick, as much gets done."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bodies import words
from client import COMPLETIONS, Client, LeanRequest, serving
from finding import Effort, Finding, milliseconds

SEATS, QUEUE = 16, 16
FACTOR = 10
MAX_REJECT_S = 0.1
MIN_GOODPUT = 0.9
_BODY = {"max_tokens": 128, "ignore_eos": True, "temperature": 0}


def _request(client: Client, rng: random.Random) -> LeanRequest:
    return LeanRequest(client.served.url, COMPLETIONS, {**_BODY, "prompt": words(rng, 20)})


def _ask(request: LeanRequest) -> tuple[str, float, float]:
    """Status, when it ended, and how long it took."""
    start_s = time.monotonic()
    status = request.send()
    end_s = time.monotonic()
    return status, end_s, end_s - start_s


def _peak(client: Client, seconds: float) -> float:
    """Requests a second, where there are always as many as seats and places in the queue."""
    start_s = time.monotonic()

    def act(seed: int) -> list[float]:
        rng, ends_s = random.Random(seed), []
        while time.monotonic() - start_s < seconds:
            status, end_s, _ = _ask(_request(client, rng))
            assert status == "200", status
            ends_s.append(end_s)
        return ends_s

    with ThreadPoolExecutor(SEATS + QUEUE) as pool:
        return _rate([end_s for ends_s in pool.map(act, range(SEATS + QUEUE)) for end_s in ends_s], start_s, seconds)


def _rate(ends_s: list[float], start_s: float, seconds: float) -> float:
    """A second, of the last three quarters of the time: the first is warm-up."""
    first_s = start_s + seconds / 4
    return sum(first_s <= end_s < start_s + seconds for end_s in ends_s) / (seconds * 3 / 4)


def _flood(requests: Sequence[LeanRequest], per_s: float) -> list[tuple[str, float, float]]:
    """What `_ask` says of each; they are sent evenly, by threads: those take less of the machine than an event loop."""
    asked, start_s = [], time.monotonic()
    with ThreadPoolExecutor(2 * (SEATS + QUEUE)) as pool:  # one a request that is inside, and as many for refusals
        for number, request in enumerate(requests):
            time.sleep(max(0.0, start_s + number / per_s - time.monotonic()))
            asked.append(pool.submit(_ask, request))
    return [each.result() for each in asked]


def measure(effort: Effort) -> Finding:
    seconds = effort.of(120, 16)

    async def main() -> Finding:
        options = ("--max-num-seqs", str(SEATS), "--max-num-queued-reqs", str(QUEUE), "--kv-cache-memory", "512M")
        async with serving(*options) as client:
            peak = await asyncio.to_thread(_peak, client, seconds)
            rng = random.Random(SEATS + QUEUE)
            requests = [_request(client, rng) for _ in range(round(peak * FACTOR * seconds))]
            start_s, own_s = time.monotonic(), time.process_time()
            replies = await asyncio.to_thread(_flood, requests, peak * FACTOR)
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
