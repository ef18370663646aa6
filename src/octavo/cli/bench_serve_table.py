"""What `octavo bench serve` prints: totals, latencies, failures, and what to know before believing them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from octavo.cli.terminal import duration, plain_table, rate, stdout

if TYPE_CHECKING:
    from octavo.bench.serve.measure import Measurement, ServePlan
    from octavo.bench.serve.result import ServeResult


def print_result(plan: "ServePlan", measurement: "Measurement") -> None:
    result, console = measurement.result, stdout()
    console.print(measurement.model, style="bold", markup=False, end="")
    console.print(f" at {plan.address.url}{plan.endpoint.path}\n", markup=False, soft_wrap=True)
    totals = plain_table("", "total", right=True)
    for name, value in _totals(result):
        totals.add_row(name, value)
    console.print(totals)
    _print_latencies(result)
    for counted in result.failures:
        failure = counted.failure
        status = "" if failure.status is None else f" {failure.status}"
        line = f"failed: {counted.count} × {failure.kind}{status}: {failure.message}"
        console.print(line, style="red", markup=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(f"warning: {warning.message}", style="yellow", markup=False, soft_wrap=True)
    for note in _notes(measurement):
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)


def _print_latencies(result: "ServeResult") -> None:
    table = plain_table("", "mean", "median", "P95", "P99", right=True)
    for name, summary in (
        ("time to first token", result.ttft_s),
        ("time per output token", result.tpot_s),
        ("inter-token latency", result.itl_s),
        ("end to end", result.e2e_s),
    ):
        if summary is not None:
            values = (summary.mean, summary.median, summary.p95, summary.p99)
            table.add_row(name, *(duration(value) for value in values))
    if table.row_count:
        stdout().print("", table, sep="\n")


def _totals(result: "ServeResult") -> Iterator[tuple[str, str]]:
    yield "successful requests", f"{result.num_successful:,}"
    yield "failed requests", f"{result.num_failed:,}"
    if result.num_interrupted:
        yield "stopped or not sent", f"{result.num_interrupted:,}"
    yield "duration", duration(result.duration_s)
    yield "input tokens", "not known" if result.num_input_tokens is None else f"{result.num_input_tokens:,}"
    if result.num_cached_tokens:
        yield "of them cached", f"{result.num_cached_tokens:,}"
    yield "output tokens", f"{result.num_output_tokens:,}"
    yield "requests/s", rate(result.requests_per_s)
    yield "output tokens/s", f"[bold]{rate(result.output_tokens_per_s)}[/]"
    if result.total_tokens_per_s is not None:
        yield "total tokens/s", rate(result.total_tokens_per_s)
    if result.goodput is not None:
        kept = " ".join(f"{objective.metric}:{objective.max_ms:g}" for objective in result.goodput.objectives)
        yield f"goodput ({kept}), requests/s", f"{rate(result.goodput.requests_per_s)} ({result.goodput.num_good:,})"
    yield "client's CPU", f"{result.client.core_share:.0%} of a core"


def _notes(measurement: "Measurement") -> Iterator[str]:
    result = measurement.result
    if measurement.form.why_text is not None:
        yield (
            f"prompts were sent as text, about a token a word, because the server takes no token ids "
            f"({measurement.form.why_text})"
        )
    if result.num_uncounted:
        yield (
            f"of {result.num_uncounted} answers the server did not count the tokens; their chunks are counted instead, "
            "which may be fewer"
        )
    if result.num_short:
        yield f"{result.num_short} answers are shorter than asked for"
    if result.tokens_per_chunk is not None and abs(result.tokens_per_chunk - 1) > 0.01:
        yield (
            f"a chunk with text has {result.tokens_per_chunk:.2f} tokens, so inter-token latency is that between chunks; "
            "time per output token is by token"
        )
    if measurement.num_failed_warmup:
        yield f"{measurement.num_failed_warmup} requests of the warm-up failed"
    if result.num_interrupted:
        yield "the run was stopped: rates leave out what was in flight"
