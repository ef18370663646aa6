"""`octavo bench`: how fast the engine is here, or a server."""

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.bench_output import JsonTarget, check_target, command_line, write_json
from octavo.cli.bench_serve import ServeCommand, serve
from octavo.cli.bench_techniques import techniques
from octavo.cli.help_page import HelpfulCommand, HelpfulGroup
from octavo.cli.options import NOT_BUILT, engine_options, with_options
from octavo.cli.terminal import duration, loading_progress, plain_table, rate, stderr, stdout
from octavo.config import EngineConfig
from octavo.core.errors import ConfigError, NotBuiltError

if TYPE_CHECKING:
    from octavo.bench.latency import LatencyResult, LatencyShape
    from octavo.bench.statistics import Summary
    from octavo.bench.throughput import ThroughputResult, ThroughputShape
    from octavo.engine.info import EngineInfo
    from octavo.engine.llm import LLM

_ENGINE = engine_options(
    has_model_argument=True,
    left_out=("seed", "max_num_queued_reqs", "scheduling_policy", "chat_template"),
    defaults=MappingProxyType({"enable_prefix_caching": False, "skip_tokenizer_init": True}),
)
"""Prefix caching is off, so that the second run of a prompt computes it again; prompts are token ids."""

_PANEL = "Benchmark"

bench = typer.Typer(
    cls=HelpfulGroup, rich_markup_mode=None, no_args_is_help=True, help="Measure how fast the engine is here."
)


def _count(help: str, *, least: int = 1) -> Any:
    return typer.Option(min=least, metavar="N", rich_help_panel=_PANEL, help=help)


BatchSize = Annotated[int, _count("Requests at once.")]
NumPrompts = Annotated[int, _count("Requests, queued at once.")]
InputLen = Annotated[int, _count("Tokens a prompt; random ids.")]
OutputLen = Annotated[int, _count("Tokens an answer; end tokens are passed over.")]
RangeRatio = Annotated[
    float,
    typer.Option(metavar="X", rich_help_panel=_PANEL, help="Lengths vary uniformly by ± this share."),
]
Iterations = Annotated[int, _count("Measured runs.")]
WarmupRuns = Annotated[int, _count("Runs before, unmeasured.", least=0)]
WarmupRequests = Annotated[int, _count("Requests before, unmeasured.", least=0)]
Seed = Annotated[int, _count("Of the random prompts.", least=0)]


@bench.command(cls=HelpfulCommand)
@with_options(config=_ENGINE)
def latency(
    input_len: InputLen = 512,
    output_len: OutputLen = 128,
    batch_size: BatchSize = 1,
    iterations: Iterations = 3,
    warmup: WarmupRuns = 1,
    seed: Seed = 0,
    json_target: JsonTarget = None,
    *,
    config: EngineConfig,
) -> None:
    """Time one batch from its start to its end. Prefix caching is off unless asked for.

    Prefill rate: prompt tokens ÷ time until every request has its first token. Decode rate: the tokens after
    the first ÷ the time from then on. Results are medians over the iterations, with the range beside them.
    """
    from octavo.bench.latency import LatencyShape, measure_latency
    from octavo.bench.report import latency_report

    shape = LatencyShape(
        input_len=input_len,
        output_len=output_len,
        batch_size=batch_size,
        warmup=warmup,
        iterations=iterations,
        seed=seed,
    )
    check_target(json_target)
    with _load(config, batch_size) as llm:
        with stderr().status(f"run 1 of {warmup + iterations}") as status:
            result = measure_latency(
                llm, shape, lambda number: status.update(f"run {number + 1} of {warmup + iterations}")
            )
        info = llm.info
        write_json(json_target, latency_report(command_line(), info, shape, result))
    if json_target != "-":
        _print_latency(info, shape, result)


@bench.command(cls=HelpfulCommand)
@with_options(config=_ENGINE)
def throughput(
    num_prompts: NumPrompts = 64,
    input_len: InputLen = 512,
    output_len: OutputLen = 128,
    range_ratio: RangeRatio = 0.0,
    warmup: WarmupRequests = 1,
    seed: Seed = 0,
    json_target: JsonTarget = None,
    *,
    config: EngineConfig,
) -> None:
    """Time many requests that are queued at once. Prefix caching is off unless asked for.

    Rates are over the whole duration. Times of single requests begin when they are queued, so they include waiting.
    """
    from octavo.bench.report import throughput_report
    from octavo.bench.throughput import ThroughputShape, measure_throughput

    shape = ThroughputShape(
        num_prompts=num_prompts,
        input_len=input_len,
        output_len=output_len,
        range_ratio=range_ratio,
        warmup=warmup,
        seed=seed,
    )
    check_target(json_target)
    with _load(config, None) as llm:
        result = measure_throughput(llm, shape)
        info = llm.info
        write_json(json_target, throughput_report(command_line(), info, shape, result))
    if json_target != "-":
        _print_throughput(info, shape, result)


bench.command(cls=ServeCommand)(serve)


def _add_not_built(name: str, meaning: str) -> None:
    """A command that is known and refused, whatever its arguments."""

    def refuse(context: typer.Context) -> None:
        raise NotBuiltError(f"octavo bench {name} is not built yet; use octavo bench latency, throughput or serve")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    bench.command(name, cls=HelpfulCommand, context_settings=settings, help=meaning, rich_help_panel=NOT_BUILT)(
        with_options()(refuse)
    )


_add_not_built("startup", "Time the start of the engine.")
bench.command(cls=HelpfulCommand)(techniques)


def _load(config: EngineConfig, batch_size: int | None) -> "LLM":
    from octavo.engine.llm import LLM

    if batch_size is not None and batch_size > config.max_num_seqs:
        raise ConfigError(
            f"--batch-size {batch_size} is more than --max-num-seqs {config.max_num_seqs}, so it would not run at once; "
            "raise the latter",
            param="batch_size",
        )
    with loading_progress() as on_phase:
        return LLM(on_phase=on_phase, **dataclasses.asdict(config))


def _print_heading(info: "EngineInfo", work: str) -> None:
    options = info.options
    caching = "on" if options["enable_prefix_caching"] else "off"
    formats = " + ".join(sorted(info.weight_formats, key=lambda name: -info.weight_formats[name]))
    console = stdout()
    console.print(f"[bold]{info.model}[/] ({formats}): {work}")
    console.print(
        f"{options['device']}, {info.isa}, {options['threads']} threads, {options['dtype']}, "
        f"KV {options['kv_cache_dtype']}, prefix caching {caching}\n"
    )


def _print_latency(info: "EngineInfo", shape: "LatencyShape", result: "LatencyResult") -> None:
    _print_heading(
        info,
        f"batch {shape.batch_size}, {shape.input_len} tokens in, {shape.output_len} out; median of "
        f"{shape.iterations} after {shape.warmup} to warm up",
    )
    table = plain_table("", "median", "min", "max", right=True)
    rows: list[tuple[str, Summary | None, Any]] = [
        ("prefill (tokens/s)", result.prefill_tokens_per_s, rate),
        ("decode (tokens/s)", result.decode_tokens_per_s, rate),
        ("time to first token", result.ttft_s, duration),
        ("time per output token", result.tpot_s, duration),
        ("whole batch", result.total_s, duration),
    ]
    for name, summary, form in rows:
        if summary is not None:
            table.add_row(name, f"[bold]{form(summary.median)}[/]", form(summary.min), form(summary.max))
    stdout().print(table)
    if result.num_prefill_steps > 1:
        stdout().print(
            f"The prompts take {result.num_prefill_steps} steps of --max-num-batched-tokens "
            f"{info.options['max_num_batched_tokens']}: requests that are ready decode meanwhile, so with a batch the "
            "two rates are not of prefill and decode alone.",
            style="dim",
        )


def _print_throughput(info: "EngineInfo", shape: "ThroughputShape", result: "ThroughputResult") -> None:
    spread = f" ± {shape.range_ratio:.0%}" if shape.range_ratio else ""
    _print_heading(
        info, f"{shape.num_prompts} requests at once, {shape.input_len} tokens in, {shape.output_len} out{spread}"
    )
    totals = plain_table("", "total", right=True)
    for name, value in (
        ("requests", f"{result.num_requests:,}"),
        ("duration", duration(result.duration_s)),
        ("input tokens", f"{result.num_input_tokens:,}"),
        ("output tokens", f"{result.num_output_tokens:,}"),
        ("requests/s", rate(result.requests_per_s)),
        ("output tokens/s", f"[bold]{rate(result.output_tokens_per_s)}[/]"),
        ("total tokens/s", rate(result.total_tokens_per_s)),
    ):
        totals.add_row(name, value)
    times = plain_table("", "mean", "median", "P95", "P99", right=True)
    for name, summary in (
        ("time to first token", result.ttft_s),
        ("time per output token", result.tpot_s),
        ("end to end", result.e2e_s),
    ):
        if summary is not None:
            values = (summary.mean, summary.median, summary.p95, summary.p99)
            times.add_row(name, *(duration(value) for value in values))
    console = stdout()
    console.print(totals)
    console.print()
    console.print(times)
