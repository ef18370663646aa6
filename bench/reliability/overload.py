"""Figure 6: ten times more requests than there is capacity for: all end, refusals are quick, as much gets done."""

import asyncio
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

from bodies import words
from client import COMPLETIONS, TIMEOUT_S, Client, LeanRequest, read_status, serving
from finding import Effort, Finding, milliseconds

SEATS, QUEUE = 16, 16
FACTOR = 10
MAX_REJECT_S = 0.1
MIN_GOODPUT = 0.9
_BODY = {"max_tokens": 128, "ignore_eos": True, "temperature": 0}


def _request(client: Client, rng: random.Random) -> LeanRequest:
    return LeanRequest(client.served.url, COMPLETIONS, {**_BODY, "prompt": words(rng, 20)})


class _Crowd:
    """Requests that are under way, all in one thread: it is to take as little of the machine as it can."""

    def __init__(self) -> None:
        self.replies: list[tuple[str, float, float]] = []
        """Status, when it ended, and how long it took."""
        self._selector = selectors.DefaultSelector()

    def begin(self, request: LeanRequest) -> None:
        begin_s = time.monotonic()
        try:
            self._selector.register(request.begin(), selectors.EVENT_READ, begin_s)
        except OSError as error:
            self._end(type(error).__name__, begin_s)

    @property
    def num_open(self) -> int:
        return len(self._selector.get_map())

    def wait(self, seconds: float = TIMEOUT_S) -> None:
        """Until one or more have ended, or the time is over."""
        for key, _ in self._selector.select(seconds):
            self._selector.unregister(key.fileobj)
            self._end(read_status(cast(socket.socket, key.fileobj)), key.data)

    def wait_for_all(self) -> None:
        """Raises `TimeoutError` where nothing ends any more."""
        while num_open := self.num_open:
            self.wait()
            if self.num_open == num_open:
                raise TimeoutError(f"{num_open} requests have no answer after {TIMEOUT_S:g} s")

    def _end(self, status: str, begin_s: float) -> None:
        end_s = time.monotonic()
        self.replies.append((status, end_s, end_s - begin_s))


def _peak(client: Client, seconds: float) -> float:
    """Requests a second, where there are always as many as seats and places in the queue."""
    rng, crowd, start_s = random.Random(0), _Crowd(), time.monotonic()
    while time.monotonic() - start_s < seconds:
        while crowd.num_open < SEATS + QUEUE:
            crowd.begin(_request(client, rng))
        crowd.wait()
    crowd.wait_for_all()
    assert {status for status, _, _ in crowd.replies} == {"200"}, crowd.replies
    return _rate([end_s for _, end_s, _ in crowd.replies], start_s, seconds)


def _rate(ends_s: list[float], start_s: float, seconds: float) -> float:
    """A second, of the last three quarters of the time: the first is warm-up."""
    first_s = start_s + seconds / 4
    return sum(first_s <= end_s < start_s + seconds for end_s in ends_s) / (seconds * 3 / 4)


def _flood(requests: Sequence[LeanRequest], per_s: float) -> list[tuple[str, float, float]]:
    """What became of them; they are sent evenly."""
    crowd, start_s = _Crowd(), time.monotonic()
    for number, request in enumerate(requests):
        while (left_s := start_s + number / per_s - time.monotonic()) > 0:
            crowd.wait(left_s)
        crowd.begin(request)
    crowd.wait_for_all()
    return crowd.replies


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
