"""The engine requests that answer one HTTP request, as one stream of deltas."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from octavo.core.errors import DeadlineExceededError, EngineDeadError, InvalidRequestError, ShuttingDownError
from octavo.core.outputs import RequestDelta
from octavo.core.request import RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.engine.liveness import EngineState
from octavo.server.context import ServerContext
from octavo.server.errors import internal
from octavo.server.field_names import rename_shape
from octavo.server.request_record import current_record
from octavo.server.visit import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCall:
    """What is asked of the engine: every prompt with the same parameters."""

    id: str
    prompts: Sequence[list[int]]
    params: SamplingParams
    priority: int
    cache_salt: str
    visit: Visit
    """Whose it is; it holds a place for each sequence."""
    shape_field: str = "structured_outputs"
    """The field of the request that the shape of the answer was made from."""


@dataclass(frozen=True, slots=True)
class PromptDelta:
    """News of the request that answers prompt `prompt_index`."""

    prompt_index: int
    delta: RequestDelta


async def generate_all(context: ServerContext, call: GenerationCall) -> AsyncGenerator[PromptDelta, None]:
    """All prompts' deltas as they come. Closing it, its deadline, or one that fails aborts what is still open.

    Raises what `AsyncEngine.generate` raises, `ApiError` where the engine failed on a request, and
    `DeadlineExceededError`.
    """
    news: asyncio.Queue[PromptDelta | Exception] = asyncio.Queue()
    record = current_record.get()
    record.begin_generation(context.model_names[0], call.params, sum(map(len, call.prompts)))
    tasks = [asyncio.create_task(_pump(context, call, index, news)) for index in range(len(call.prompts))]
    num_open = len(tasks)

    def expire(error: DeadlineExceededError) -> None:
        """End them here and now, even if nobody reads the news, as of a client that is slow."""
        for task in tasks:
            task.cancel()
        news.put_nowait(error)

    timer = call.visit.at_deadline(expire)
    try:
        while num_open:
            item = await news.get()
            if isinstance(item, Exception):
                raise item
            record.take(item.delta)
            if item.delta.error is not None:
                raise _failure(context, item.delta.error)
            num_open -= item.delta.is_finished
            yield item
    except InvalidRequestError as error:
        rename_shape(error, call.shape_field)
        raise
    finally:
        if timer is not None:
            timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    context: ServerContext, call: GenerationCall, index: int, news: "asyncio.Queue[PromptDelta | Exception]"
) -> None:
    request_id = f"{call.id}-{index}@{current_record.get().id}"
    context.metrics.begin(request_id)
    try:
        async for delta in context.engine.generate(
            call.prompts[index],
            call.params,
            request_id=request_id,
            priority=call.priority,
            cache_salt=call.cache_salt,
            client=call.visit.client,
            places=call.visit.places,
        ):
            news.put_nowait(PromptDelta(index, delta))
    except Exception as error:  # noqa: BLE001  (raised again by whoever reads the news)
        news.put_nowait(error)
    finally:
        context.metrics.end(request_id)


def _failure(context: ServerContext, failure: RequestFailure) -> Exception:
    """What the request asked for cannot be done, or the engine is gone or on its way out, or it failed on this alone."""
    if failure.is_of_request:
        return InvalidRequestError(failure.message, param=failure.param)
    state = context.engine.state
    if state is EngineState.DEAD:
        return EngineDeadError(failure.message)
    return ShuttingDownError(failure.message) if state is EngineState.STOPPING else internal(failure.message)
