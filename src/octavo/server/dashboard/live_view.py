"""Follows the engine for those who watch: a snapshot each quarter of a second in which something happened."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from octavo.server.dashboard.ring import SnapshotRing
from octavo.server.dashboard.schema import Limits, PrefixCache, Snapshot, Throughput, describe_blocks
from octavo.server.dashboard.step_log import StepLog
from octavo.server.dashboard.throughput import ThroughputMeter
from octavo.server.dashboard.viewers import Viewers
from octavo.server.recent_times import RecentTimes
from octavo.server.wire import to_json

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine

PERIOD_S = 0.25


class LiveView:
    """Snapshots of one engine, in a ring that its viewers read. Used on one event loop only."""

    def __init__(
        self,
        engine: "AsyncEngine",
        model_name: str,
        ttft: RecentTimes,
        itl: RecentTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        info = engine.info
        self.ring = SnapshotRing(secrets.token_hex(8))
        self.viewers = Viewers(self.ring)
        self.log = StepLog()
        engine.subscribe(self.log.observe)
        self._engine = engine
        self._model_name = model_name
        self._ttft, self._itl = ttft, itl
        self._clock = clock
        self._begin_s = clock()
        self._meter = ThroughputMeter(self._begin_s)
        self._limits = Limits(max_num_seqs=info.max_num_seqs, max_num_batched_tokens=info.max_num_batched_tokens)
        self._shown = self._changing(Throughput())
        self._append(Throughput())

    async def run(self) -> None:
        """Make snapshots until cancelled; the viewers' streams end with it, whatever ends it."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                self.advance()
        finally:
            self.viewers.close()

    def advance(self) -> None:
        """Make a snapshot if there is news since the last one: 0.2 ms."""
        log = self.log
        throughput = self._meter.read(self._clock(), log.num_generated_tokens, log.num_prefilled_tokens)
        changing = self._changing(throughput)
        if changing != self._shown:
            self._shown = changing
            self._append(throughput)
            self.viewers.wake()

    def _changing(self, throughput: Throughput) -> tuple[object, ...]:
        """What differs where there is news."""
        return self.log.num_batches, self._engine.block_map.step, throughput, self._engine.state

    def _append(self, throughput: Throughput) -> None:
        stats = self.log.stats
        queried, hit = stats.prefix_cache_queries, stats.prefix_cache_hits
        snapshot = Snapshot(
            boot_id=self.ring.boot_id,
            id=self.ring.next_id,
            step=stats.step,
            time_s=round(time.time(), 3),
            uptime_s=round(self._clock() - self._begin_s, 3),
            model=self._model_name,
            engine=self._engine.state,
            num_running=stats.num_running,
            num_waiting=stats.num_waiting,
            num_preemptions=stats.num_preemptions,
            throughput=throughput,
            ttft=self._ttft.percentiles(),
            itl=self._itl.percentiles(),
            prefix_cache=PrefixCache(
                queried_tokens=queried, hit_tokens=hit, hit_rate=round(hit / queried, 4) if queried else None
            ),
            blocks=describe_blocks(self._engine.block_map, self._engine.info.block_size),
            steps=self.log.steps(),
            limits=self._limits,
        )
        self.ring.append(to_json(snapshot))
