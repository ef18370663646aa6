"""A real engine that runs one request at a time."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.messages import EngineStats, OutputBatch
from octavo.core.outputs import RequestDelta
from octavo.server.generation import GenerationCall, generate_all
from octavo.server.request_record import RequestRecord, current_record
from octavo.server.visit import Visit


class OneSeat:
    """The engine's own process, with a seat for one request at a time, and how many steps had a part of each name."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.num_steps = Counter[str]()
        self._step = asyncio.Event()
        metrics = SimpleNamespace(begin=lambda request_id: None, end=lambda request_id: None)
        self._context: Any = SimpleNamespace(engine=engine, metrics=metrics, model_names=("tiny",))
        engine.subscribe(self._observe)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, path: Path) -> AsyncIterator["OneSeat"]:
        config = EngineConfig(
            model=str(path),
            skip_tokenizer_init=True,
            kv_cache_memory="4M",
            threads=1,
            max_num_seqs=1,
            enable_prefix_caching=False,
        )
        engine = await AsyncEngine.start(config)
        try:
            yield cls(engine)
        finally:
            await engine.shutdown()

    async def run(self, name: str) -> None:
        """A request of 240 tokens, to its end."""
        current_record.set(RequestRecord("POST", "/v1/chat/completions", {}))
        visit = Visit("")
        visit.limit_time(ServerConfig(request_timeout=60.0), None)
        visit.enter(self.engine, 1)
        params = SamplingParams(max_tokens=240, ignore_eos=True)
        call = GenerationCall(id=name, prompts=[[3, 4]], params=params, priority=0, cache_salt="", visit=visit)
        async for _ in generate_all(self._context, call):
            pass

    async def until(self, condition: Callable[[EngineStats], bool]) -> None:
        """The end of the step after which it holds."""
        while self.engine.stats is None or not condition(self.engine.stats):
            self._step.clear()
            await self._step.wait()

    def _observe(self, batch: OutputBatch, deltas: list[RequestDelta]) -> None:
        self.num_steps.update(event.request_id.partition("#")[2].partition("-")[0] for event in batch.events)
        self._step.set()
