"""An `AsyncEngine` that runs, for as long as a scenario takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from octavo import AsyncEngine, SamplingParams
from octavo.config import EngineConfig
from octavo.core.outputs import RequestDelta

LONG = SamplingParams(max_tokens=200, ignore_eos=True, seed=1)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


@asynccontextmanager
async def engine(path: Path, *, stall_timeout_s: float = 60.0, **options: Any) -> AsyncIterator[AsyncEngine]:
    options = {"kv_cache_memory": "4M", "threads": 1} | options
    config = EngineConfig(model=str(path), skip_tokenizer_init=True, **options)
    started = await AsyncEngine.start(config, stall_timeout_s=stall_timeout_s)
    try:
        yield started
    finally:
        await started.shutdown()


async def collect(stream: AsyncIterator[RequestDelta]) -> list[RequestDelta]:
    return [delta async for delta in stream]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def spy(owner: Any, name: str, called: Callable[[], object]) -> None:
    """Have `called` called with each call of a method, in its thread."""
    method = getattr(owner, name)

    def watched(*args: Any, **options: Any) -> Any:
        called()
        return method(*args, **options)

    object.__setattr__(owner, name, watched)
