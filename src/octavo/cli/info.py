"""`octavo info`: what would run, on what, and why each option has its value; the recorded pass, timed."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from octavo.cli.options import engine_options, flag, with_options
from octavo.cli.terminal import plain_table, stdout
from octavo.config import EngineConfig
from octavo.config.env import cache_directory
from octavo.config.quantities import format_bytes
from octavo.core.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.circumstances import Hardware, Software
    from octavo.engine.info import EngineInfo
    from octavo.worker import ProgramReport

_BYTES = ("kv_cache_memory",)


@with_options(config=engine_options(has_model_argument=True))
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    program: Annotated[
        bool, typer.Option("--program", help="Load the weights and show the recorded forward pass, timed.")
    ] = False,
    requests: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --program: requests in the timed step; default 1.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With --program: tokens of each request, old and new; default 512."),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --program: tokens of each request that the step computes; default 1: a decode step.",
        ),
    ] = None,
    *,
    config: EngineConfig,
) -> None:
    """Show the machine, the model, and every option with its value and why. No weights are loaded without --program."""
    from octavo.bench.circumstances import hardware, software

    if program:
        _print_program(_program_report(config, requests or 1, context or 512, new_tokens or 1), as_json=as_json)
        return
    for name, given in (("requests", requests), ("context", context), ("new_tokens", new_tokens)):
        if given is not None:
            raise ConfigError(f"{name}={given} says what --program times; add --program, or leave it out", param=name)

    engine, sampling = _inspect(config)
    if as_json:
        report = {
            "software": dataclasses.asdict(software()),
            "hardware": dataclasses.asdict(hardware()),
            **_engine_as_json(engine),
            "sampling_defaults": sampling,
        }
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    _print_machine(software(), hardware(), engine)
    _print_model(engine, sampling)
    _print_options(config, engine)


def _inspect(config: EngineConfig) -> "tuple[EngineInfo, dict[str, Any]]":
    """What `build_engine` would tell of the engine, and the model's own sampling defaults."""
    from octavo.engine.build import inspect_engine
    from octavo.engine.front_end import load_front_end

    engine = inspect_engine(config)
    text_free = dataclasses.replace(config, skip_tokenizer_init=True)
    return engine, dict(load_front_end(text_free, Path(engine.model_path), cache_directory()).sampling_defaults)


def _program_report(config: EngineConfig, num_requests: int, context_tokens: int, new_tokens: int) -> "ProgramReport":
    """Raises `ConfigError` where the options ask for sizes that the engine is not made for."""
    from octavo.engine.build import build_engine

    if new_tokens > context_tokens:
        raise ConfigError(
            f"new_tokens={new_tokens} is more than context={context_tokens}; lower it", param="new_tokens"
        )
    core, engine = build_engine(config)
    budget = engine.options["max_num_batched_tokens"]
    for name, given, most, of in (
        ("requests", num_requests, engine.max_num_seqs, "max_num_seqs"),
        ("context", context_tokens, engine.max_model_len, "max_model_len"),
        (
            "new_tokens",
            new_tokens,
            budget // num_requests,
            f"max_num_batched_tokens={budget} for {num_requests} requests",
        ),
    ):
        if given > most:
            raise ConfigError(f"{name}={given} is more than {most}, the most by {of}; lower it", param=name)
    report = core.runner.report_program(num_requests=num_requests, context_tokens=context_tokens, new_tokens=new_tokens)
    if report is None:
        reason = (
            "enforce_eager is given; leave it out"
            if config.enforce_eager
            else "only the native kernels of a CPU are recorded; use device=cpu, and do not set OCTAVO_OPS=reference"
        )
        raise ConfigError(f"no pass is recorded: {reason}", param="enforce_eager" if config.enforce_eager else "device")
    return report


def _print_program(report: "ProgramReport", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(report) | {"seconds": report.seconds}, indent=2))
        return
    _facts(
        "Program",
        [
            (
                "step",
                f"{report.num_requests} request{'s' if report.num_requests > 1 else ''}, "
                f"{report.new_tokens:,} of {report.context_tokens:,} tokens each: "
                f"{1e3 * report.seconds:.2f} ms",
            ),
            ("launches", f"{report.num_launches:,}"),
            ("buffers", f"{report.num_buffers:,} in {format_bytes(report.arena_bytes)}, shared by lifetime"),
        ],
    )
    table = plain_table("kernel", "shape", "launches", "weights", "time", "share", "GB/s")
    table.columns[0].style = "cyan"
    for column in table.columns[2:]:
        column.justify = "right"
    for group in report.groups:
        has_weights = group.weight_bytes > 0
        table.add_row(
            group.kernel,
            group.shape,
            str(group.count),
            format_bytes(group.weight_bytes) if has_weights else "",
            f"{1e3 * group.seconds:.3f} ms",
            f"{group.seconds / report.seconds:.1%}",
            f"{group.weight_bytes / group.seconds / 1e9:.1f}" if has_weights else "",
        )
    stdout().print(table)


def _engine_as_json(engine: "EngineInfo") -> dict[str, Any]:
    return {
        "model": {
            "name": engine.model,
            "path": engine.model_path,
            "family": engine.family,
            "architecture": engine.architecture,
            "num_layers": engine.num_layers,
            "vocab_size": engine.vocab_size,
            "num_parameters": engine.num_parameters,
            "weight_bytes": engine.weight_bytes,
            "weight_formats": engine.weight_formats,
        },
        "isa": engine.isa,
        "kv_cache_tokens": engine.num_blocks * engine.block_size,
        "options": engine.options,
        "reasons": engine.reasons,
    }


def _facts(title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="dim", min_width=12, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console = stdout()
    console.print(table)
    console.print()


def _print_machine(software: "Software", hardware: "Hardware", engine: "EngineInfo") -> None:
    commit = f" ({software.commit})" if software.commit else ""
    memory = f"{format_bytes(hardware.available_memory_bytes)} available of {format_bytes(hardware.memory_bytes)}"
    rows = [
        ("octavo", software.octavo + commit),
        ("python", f"{software.python}, torch {software.torch}"),
        ("processor", hardware.cpu),
        ("kernels", f"{engine.isa}, {engine.options['threads']} threads of {hardware.num_cores} cores"),
        ("memory", memory),
        ("GPU", hardware.gpu or "none"),
    ]
    _facts("Machine", rows)


def _print_model(engine: "EngineInfo", sampling: dict[str, Any]) -> None:
    formats = sorted(engine.weight_formats.items(), key=lambda item: -item[1])
    tokens = engine.num_blocks * engine.block_size
    rows = [
        ("model", f"[cyan]{engine.model}[/]"),
        ("path", engine.model_path),
        ("family", f"{engine.family} ({engine.architecture}), {engine.num_layers} layers"),
        ("parameters", f"{engine.num_parameters / 1e6:,.1f} million, {engine.vocab_size:,} token ids"),
        (
            "weights",
            f"{format_bytes(engine.weight_bytes)}: "
            + ", ".join(f"{name} {format_bytes(num_bytes)}" for name, num_bytes in formats),
        ),
        (
            "KV cache",
            f"{format_bytes(engine.options['kv_cache_memory'])}: {engine.num_blocks:,} blocks, {tokens:,} tokens, "
            f"{tokens / engine.max_model_len:.1f} requests of full length",
        ),
        ("sampling", ", ".join(f"{name} {value:g}" for name, value in sampling.items()) or "no defaults of its own"),
    ]
    _facts("Model", rows)


def _print_options(config: EngineConfig, engine: "EngineInfo") -> None:
    table = plain_table("option", "value", "why")
    table.columns[0].style, table.columns[2].style = "cyan", "dim"
    unused = {name: getattr(config, name) for name in engine.reasons if name not in engine.options}
    for name, value in {**engine.options, **unused}.items():
        if name != "model":
            label = flag(name) if name in EngineConfig.__dataclass_fields__ else name.replace("_", " ")
            table.add_row(label, _shown(name, value), engine.reasons.get(name) or _reason(config, name))
    stdout().print(table)


def _reason(config: EngineConfig, name: str) -> str:
    default = EngineConfig.__dataclass_fields__[name].default
    return "default" if getattr(config, name) == default else "given"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if name in _BYTES:
        return format_bytes(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
