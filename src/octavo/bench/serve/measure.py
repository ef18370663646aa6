"""From a plan to its result: ask the server what it is, warm it up, send the load."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo.bench.serve.arrivals import Arrivals
from octavo.bench.serve.client import BenchClient, PreparedRequest, RequestOptions, prepare
from octavo.bench.serve.datasets import Dataset, RandomDataset
from octavo.bench.serve.goodput import Objective
from octavo.bench.serve.http import Address
from octavo.bench.serve.load import Load, LoadRun, RunClock
from octavo.bench.serve.record import RequestRecord
from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.bench.serve.result import ServeResult, result_of
from octavo.bench.serve.target import TakenForm, find_form, find_model, is_local

_WARMUP_SEED = 1 << 32
"""Apart from every seed of a measured prompt, so that none is cached by its warm-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """What is sent, where to and when."""

    address: Address
    endpoint: Endpoint
    arrivals: Arrivals
    dataset: Dataset
    warmup_dataset: RandomDataset
    num_warmup: int
    num_prompts: int | None = None
    """None: as many as the dataset has by itself."""
    form: PromptForm | None = None
    """None: token ids where the server takes them, else text."""
    max_in_flight: int | None = None
    ignores_eos: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    model: str | None = None
    """None: the first that the server names."""
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    result: ServeResult
    records: list[RequestRecord]
    model: str
    form: TakenForm
    num_failed_warmup: int


@dataclass(slots=True)
class Watcher:
    """Is told how far the measurement is."""

    on_start: Callable[[int], None] = lambda num_requests: None
    on_done: Callable[[RequestRecord], None] = lambda record: None


async def measure_server(plan: ServePlan, stop: asyncio.Event, watcher: Watcher) -> Measurement:
    """Raises `TargetError` where the server is not there or refuses every request, `ConfigError` for a bad dataset."""
    clock = RunClock()
    client = BenchClient(plan.address, api_key=plan.api_key, timeout_s=plan.timeout_s, clock=clock)
    options = RequestOptions(
        endpoint=plan.endpoint,
        model=await find_model(plan.address, plan.api_key, plan.model),
        ignores_eos=plan.ignores_eos,
        extra_body=plan.extra_body,
    )
    form = await find_form(client, options, plan.form)
    prompts = plan.dataset.prompts(plan.num_prompts, form.form, plan.seed)
    requests = [prepare(prompt, options) for prompt in prompts]
    warmup = plan.warmup_dataset.prompts(plan.num_warmup, form.form, plan.seed + _WARMUP_SEED)
    max_in_flight = _least(plan.max_in_flight, plan.arrivals.max_in_flight)
    warmup_run = await _run(
        client, clock, [prepare(prompt, options) for prompt in warmup], [0.0] * len(warmup), max_in_flight, stop
    )
    watcher.on_start(len(requests))
    times = plan.arrivals.times(len(requests), plan.seed)
    run = await _run(client, clock, requests, times, max_in_flight, stop, watcher.on_done)
    return Measurement(
        result=result_of(run, plan.objectives, shares_machine=is_local(plan.address)),
        records=run.records,
        model=options.model,
        form=form,
        num_failed_warmup=sum(record.failure is not None for record in warmup_run.records),
    )


async def _run(
    client: BenchClient,
    clock: RunClock,
    requests: Sequence[PreparedRequest],
    times: Sequence[float],
    max_in_flight: int | None,
    stop: asyncio.Event,
    on_done: Callable[[RequestRecord], None] = lambda record: None,
) -> LoadRun:
    load = Load(
        send=lambda number, record: client.send(requests[number], record),
        times=times,
        max_in_flight=max_in_flight,
        clock=clock,
        on_done=on_done,
    )
    return await load.run(stop)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
