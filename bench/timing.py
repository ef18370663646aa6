"""What is compared is run in turn, so that a change of the machine's speed meets all of it."""

import statistics
import time
from collections.abc import Callable, Sequence

WARM_UP = 1
MIN_REPEATS = 5


def timed(
    runs: Sequence[Callable[[], object]], seconds: float, *, warm_up: int = WARM_UP, min_repeats: int = MIN_REPEATS
) -> list[list[float]]:
    """Seconds of each: after `warm_up` rounds, of as many rounds as fill `seconds`, and at least `min_repeats`."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(warm_up):
        for run in runs:
            run()
    begin = time.perf_counter()
    while len(times[0]) < min_repeats or time.perf_counter() - begin < seconds:
        for run, own in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return times


def summary(times: Sequence[float]) -> dict[str, float | int]:
    """Of at least two times in seconds; the spread is that of the middle half."""
    quartiles = statistics.quantiles(times, n=4)
    return {
        "median_ms": quartiles[1] * 1e3,
        "min_ms": min(times) * 1e3,
        "spread_ms": (quartiles[2] - quartiles[0]) * 1e3,
        "repeats": len(times),
    }


def timed_on_gpu(runs: Sequence[Callable[[], object]], seconds: float, *, warm_up: int = 3) -> list[list[float]]:
    """As `timed`, by events on the current CUDA stream: what the device takes, without what launching takes beside it."""
    import torch

    times: list[list[float]] = [[] for _ in runs]
    for _ in range(warm_up):
        for run in runs:
            run()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    while len(times[0]) < MIN_REPEATS or time.perf_counter() - begin < seconds:
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in runs]
        for run, (start, stop) in zip(runs, events, strict=True):
            start.record()
            run()
            stop.record()
        torch.cuda.synchronize()
        for (start, stop), own in zip(events, times, strict=True):
            own.append(start.elapsed_time(stop) / 1e3)
    return times
