"""The figures of a run, from the times of its requests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.bench.serve.client_load import ClientLoad, ClientWarning, client_warnings
from octavo.bench.serve.goodput import Objective, num_good
from octavo.bench.serve.load import LoadRun
from octavo.bench.serve.record import Failure, RequestRecord
from octavo.bench.statistics import Summary, summarise


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedFailure:
    failure: Failure
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    objectives: tuple[Objective, ...]
    num_good: int
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeResult:
    """Rates are over the whole duration; tokens, and times of single requests, are those of the successful ones."""

    num_requests: int
    num_successful: int
    num_failed: int
    num_interrupted: int
    """In flight when the run was stopped, or not sent yet."""
    failures: list[CountedFailure]
    """The most frequent first."""
    duration_s: float
    num_input_tokens: int | None
    """None where neither the client knows nor the server said."""
    num_cached_tokens: int
    """Of the input: what the server says that it had computed before."""
    num_output_tokens: int
    num_uncounted: int
    """Answers without the server's usage, whose tokens were taken to be their chunks."""
    num_short: int
    """Answers that ended before the number of tokens asked for."""
    tokens_per_chunk: float | None
    """Of output: where it is not 1, the time between chunks is not that between tokens."""
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float | None
    ttft_s: Summary | None
    tpot_s: Summary | None
    """Of requests with more than one output token."""
    itl_s: Summary | None
    """Between one chunk with output and the next, over all requests."""
    e2e_s: Summary | None
    goodput: Goodput | None
    client: ClientLoad
    warnings: list[ClientWarning]


def result_of(run: LoadRun, objectives: Sequence[Objective], *, shares_machine: bool) -> ServeResult:
    """O(output chunks)."""
    good = [record for record in run.records if record.is_successful]
    failures = Counter(record.failure for record in run.records if record.failure is not None)
    num_unfinished = sum(not record.is_finished for record in run.records)
    num_output_tokens = sum(record.num_output_tokens for record in good)
    num_input_tokens = _total([record.num_prompt_tokens for record in good])
    num_chunks = sum(len(record.output_s) for record in good)
    itl_s = _summary([gap for record in good for gap in record.itl_s])
    per_s = 1 / run.duration_s
    return ServeResult(
        num_requests=len(run.records) + run.num_unsent,
        num_successful=len(good),
        num_failed=failures.total(),
        num_interrupted=num_unfinished + run.num_unsent,
        failures=[CountedFailure(failure=failure, count=count) for failure, count in failures.most_common()],
        duration_s=run.duration_s,
        num_input_tokens=num_input_tokens,
        num_cached_tokens=sum(record.num_cached_tokens for record in good),
        num_output_tokens=num_output_tokens,
        num_uncounted=sum(record.usage is None for record in good),
        num_short=sum(record.num_output_tokens < record.max_tokens for record in good),
        tokens_per_chunk=num_output_tokens / num_chunks if num_chunks else None,
        requests_per_s=len(good) * per_s,
        output_tokens_per_s=num_output_tokens * per_s,
        total_tokens_per_s=None if num_input_tokens is None else (num_input_tokens + num_output_tokens) * per_s,
        ttft_s=_summary([record.ttft_s for record in good]),
        tpot_s=_summary([tpot_s for record in good if (tpot_s := record.tpot_s) is not None]),
        itl_s=itl_s,
        e2e_s=_summary([record.e2e_s for record in good]),
        goodput=_goodput(run.records, tuple(objectives), per_s),
        client=run.client,
        warnings=client_warnings(
            run.client, median_itl_s=itl_s.median if itl_s else None, shares_machine=shares_machine
        ),
    )


def _goodput(records: Sequence[RequestRecord], objectives: tuple[Objective, ...], per_s: float) -> Goodput | None:
    if not objectives:
        return None
    count = num_good(records, objectives)
    return Goodput(objectives=objectives, num_good=count, requests_per_s=count * per_s)


def _summary(samples: Sequence[float]) -> Summary | None:
    return summarise(samples) if samples else None


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
