"""One group measured: engines in turn, each row with the same prompts for all, and what others used of the CPU meanwhile."""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from peers.client import Sample, Worker, WorkerError, cpu_s, machine_cpu_s
from peers.groups import PEERS, Engine, Model, Row

HERE = Path(__file__).parent
MAX_LEN, MAX_BATCH = 640, 32
CACHE_BYTES = 1 << 30
NUM_GREEDY_TOKENS = 64
WARMUP_OUTPUT_LEN = 8
START_PROMPT_LEN = 16
SETTLE_S = 0.3
"""Before a sample: threads of the engine that ran before may still spin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    model: Model
    engines: Mapping[str, Engine]
    rows: Mapping[str, Row]
    rounds: int
    start_rounds: int
    """0 leaves the start out."""
    threads: int
    max_repeats: int
    """Of a sample during which others used the CPU."""
    log_directory: Path


@dataclass(slots=True)
class Record:
    """Of one engine."""

    about: dict[str, Any] = field(default_factory=dict)
    """The fields of the worker's `About`."""
    refused: str | None = None
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """By row."""
    start_samples: list[Sample] = field(default_factory=list)
    start_peak_bytes: int | None = None
    peak_bytes: int | None = None
    greedy_token_ids: list[int] = field(default_factory=list)


def measure(plan: Plan) -> dict[str, Record]:
    """By engine. One that fails is recorded as refused, with its words, and the others go on."""
    records = {key: Record() for key in plan.engines}
    _measure_rows(plan, records)
    for number in range(plan.start_rounds):
        for key, engine in plan.engines.items():
            if records[key].refused is None:
                with refusal_kept(records[key]):
                    _measure_start(plan, engine, records[key])
        say(f"start: round {number + 1} of {plan.start_rounds}")
    return records


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@contextmanager
def refusal_kept(record: Record) -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        record.refused = str(error)
        say(f"refused: {record.refused}")


def _measure_rows(plan: Plan, records: Mapping[str, Record]) -> None:
    """With all engines loaded: those whose turn it is not wait for a command, and take no CPU time."""
    workers: dict[str, Worker] = {}
    try:
        for key, engine in plan.engines.items():
            say(f"load {engine.name}")
            with refusal_kept(records[key]):
                workers[key] = _start(plan, engine)
                _prepare(plan, workers[key], engine, records[key])
        for name, row in plan.rows.items():
            for number in range(plan.rounds):
                prompts = random_prompts(row, plan.model.vocab_size, seed=number)
                for key, worker in workers.items():
                    if records[key].refused is None:
                        with refusal_kept(records[key]):
                            sample = clean_sample(partial(worker.run, prompts, row.output_len), plan.max_repeats)
                            records[key].samples.setdefault(name, []).append(sample)
                say(f"{row.name}: round {number + 1} of {plan.rounds}")
        for key, worker in workers.items():
            if records[key].refused is None:
                records[key].peak_bytes = worker.ask("rss")["peak_bytes"]
    finally:
        for worker in workers.values():
            worker.close()


def _prepare(plan: Plan, worker: Worker, engine: Engine, record: Record) -> None:
    """Load, compute the fixed prompt, and run every row's prompts once with a short output."""
    record.about = worker.ask("load", **_load_fields(plan, engine, MAX_BATCH))
    record.greedy_token_ids = worker.run([list(plan.model.prompt)], NUM_GREEDY_TOKENS).token_ids[0]
    for row in plan.rows.values():
        prompts = random_prompts(row, plan.model.vocab_size, seed=-1)
        worker.run(prompts, min(row.output_len, WARMUP_OUTPUT_LEN))


def _measure_start(plan: Plan, engine: Engine, record: Record) -> None:
    """From nothing to the first token: the process, its imports, the model."""

    def once() -> Sample:
        start, machine = time.monotonic(), machine_cpu_s()
        worker = _start(plan, engine)
        try:
            worker.ask("load", **_load_fields(plan, engine, 1))
            prompt = list(plan.model.prompt[:START_PROMPT_LEN])
            token_ids = worker.run([prompt], 1).token_ids
            total_s = time.monotonic() - start
            foreign_s = machine_cpu_s() - machine - cpu_s(worker.pid)
            record.start_peak_bytes = worker.ask("rss")["peak_bytes"]
        finally:
            worker.close()
        return Sample(total_s, total_s, max(0.0, foreign_s / total_s), token_ids)

    record.start_samples.append(clean_sample(once, plan.max_repeats))


def clean_sample(once: Callable[[], Sample], max_repeats: int) -> Sample:
    """The first during which others were quiet, else the quietest of a few."""
    samples: list[Sample] = []
    while len(samples) <= max_repeats:
        time.sleep(SETTLE_S)
        samples.append(once())
        if not samples[-1].is_dirty:
            break
    return min(samples, key=lambda sample: sample.foreign_cores)


def random_prompts(row: Row, vocab_size: int, seed: int) -> list[list[int]]:
    """The same for every engine; a fresh set each round, so that nothing can be remembered."""
    source = random.Random(f"{row.name} {seed}")
    return [[source.randrange(3, vocab_size) for _ in range(row.input_len)] for _ in range(row.batch)]


def _start(plan: Plan, engine: Engine) -> Worker:
    """Raises `WorkerError` for a peer that is not installed, or a model that was not converted."""
    python = Path(sys.executable) if engine.is_octavo else PEERS / engine.worker / "bin" / "python"
    for needed, name in ((python, engine.worker), (engine.file, engine.file.name)):
        if not needed.exists():
            raise WorkerError(_why_missing(name))
    log = plan.log_directory / f"{engine.name.replace(' ', '-')}.log"
    with log.open("a") as errors:
        return Worker(python, HERE / f"{engine.worker}_worker.py", errors, plan.threads)


def _why_missing(name: str) -> str:
    file = PEERS / "failures.json"
    failures: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return f"{name} is not there: {failures.get(name, 'run `make peers`')}"


def _load_fields(plan: Plan, engine: Engine, max_batch: int) -> dict[str, Any]:
    return {
        "model": str(engine.file),
        "threads": plan.threads,
        "max_len": MAX_LEN,
        "max_batch": max_batch,
        "cache_bytes": CACHE_BYTES,
        "options": dict(engine.options),
    }


def rate(row: Row, sample: Sample) -> float:
    """Tokens a second: of decode those after the first, of prefill those of the prompts."""
    if row.is_decode:
        return row.batch * (row.output_len - 1) / (sample.total_s - sample.first_s)
    return row.batch * row.input_len / sample.first_s


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of tokens before the two differ."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
