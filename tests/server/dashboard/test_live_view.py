"""Snapshots: what they say of the steps before them, and when one is made."""

import gc
import json
import tracemalloc
from typing import Any

import pytest
from server.fake_engine import FakeEngine

from octavo.core.messages import BlockMap, EngineStats, OutputBatch, SequenceEvent
from octavo.engine.liveness import EngineState
from octavo.server.dashboard.live_view import PERIOD_S, LiveView
from octavo.server.dashboard.step_log import MAX_STEPS
from octavo.server.recent_times import RecentTimes


class Watched:
    """A view of a scripted engine, under a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.engine: Any = FakeEngine()
        self.ttft, self.itl = RecentTimes(8), RecentTimes(8)
        self.view = LiveView(self.engine, "small", self.ttft, self.itl, clock=lambda: self.now)

    def step(self, number: int, *, tokens: int = 1, **report: Any) -> None:
        stats: dict[str, int] = dict.fromkeys(EngineStats.__struct_fields__, 0) | {"num_step_requests": tokens}
        stats |= {"num_decode_tokens": tokens, "step": number} | report.pop("stats", {})
        batch = OutputBatch([SequenceEvent("a", 0, [7] * tokens)], EngineStats(**stats), **report)
        for observe in self.engine._observers:
            observe(batch, [])

    def advance(self, periods: int = 1) -> None:
        for _ in range(periods):
            self.now += PERIOD_S
            self.view.advance()

    @property
    def newest(self) -> dict[str, Any]:
        return json.loads(self.view.ring.newest.data)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_there_is_one_before_the_first_step(watched: Watched) -> None:
    first = watched.newest
    assert (first["id"], first["step"], first["model"], first["engine"]) == (1, 0, "small", "running")
    assert first["blocks"]["cells"] == "f" * 64 and first["blocks"]["free"] == first["blocks"]["num_blocks"] == 64
    assert first["prefix_cache"] == {"queried_tokens": 0, "hit_tokens": 0, "hit_rate": None}
    assert first["ttft"] == {"count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    assert first["limits"] == {"max_num_seqs": 8, "max_num_batched_tokens": 512}


def test_it_says_what_the_engine_said(watched: Watched) -> None:
    counts = {"num_running": 3, "num_waiting": 2, "num_preemptions": 5}
    work = {"num_decode_tokens": 2, "num_prefill_tokens": 40, "num_step_requests": 3}
    cache = {"prefix_cache_queries": 200, "prefix_cache_hits": 50}
    watched.engine.block_map = BlockMap(12, 1, 2, 3, 4, 1, bytes([0, 1, 1, 2, 2, 2, 3, 3, 3, 3]))
    watched.ttft.add(0.5)
    watched.step(12, stats=counts | work | cache, step_s=0.0125)
    watched.advance()
    newest = watched.newest
    assert {name: newest[name] for name in counts} == counts
    assert newest["prefix_cache"] == {"queried_tokens": 200, "hit_tokens": 50, "hit_rate": 0.25}
    assert newest["ttft"]["p99_ms"] == 500.0
    assert newest["steps"] == {
        "step": [12], "decode_tokens": [2], "prefill_tokens": [40], "requests": [3], "step_ms": [12.5]
    }  # fmt: skip
    assert newest["blocks"] == {
        "step": 12, "num_blocks": 10, "block_size": 16, "free": 1, "cached": 2, "private": 3, "shared": 4,
        "blocks_per_cell": 1, "cells": "fccpppssss",
    }  # fmt: skip
    watched.step(13)
    watched.advance()
    assert (watched.newest["step"], watched.newest["blocks"]["step"]) == (13, 12)


def test_only_the_last_steps_are_told_and_none_that_computed_nothing(watched: Watched) -> None:
    for number in range(1, 1001):
        watched.step(number)
    watched.step(1001, tokens=0)
    watched.advance()
    assert watched.newest["steps"]["step"] == list(range(1001 - MAX_STEPS, 1001))
    assert watched.newest["step"] == 1001


def test_throughput_is_that_of_two_seconds_and_falls_to_nothing(watched: Watched) -> None:
    for number in range(1, 41):  # ten seconds of 100 tokens/s
        watched.step(number, tokens=25)
        watched.advance()
    assert watched.newest["throughput"]["generated"] == 100.0
    watched.advance(4)
    assert watched.newest["throughput"]["generated"] == 50.0
    watched.advance(40)
    assert watched.newest["throughput"]["generated"] == 0.0


def test_where_nothing_happens_none_is_made(watched: Watched) -> None:
    watched.step(1)
    watched.advance(20)
    made = watched.view.ring.newest.id
    watched.advance(100)
    assert watched.view.ring.newest.id == made
    watched.engine.state = EngineState.STALLED
    watched.advance(10)
    assert watched.view.ring.newest.id == made + 1 and watched.newest["engine"] == "stalled"


def test_what_has_run_for_long_takes_no_more_memory(watched: Watched) -> None:
    def run(first_step: int) -> int:
        """The bytes that are held after 1,000 steps more."""
        for number in range(first_step, first_step + 1000):
            watched.step(number)
            watched.advance()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        run(1000)  # the ring is full from here on
        before = run(2000)
        after = run(3000)
    finally:
        tracemalloc.stop()
    assert watched.newest["id"] == 3001
    assert after - before < 8 * 1000  # less than a reference for each step
