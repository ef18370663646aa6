"""`octavo explain`: why an operation takes the time it takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.help_page import HelpfulCommand, HelpfulGroup
from octavo.cli.options import with_options
from octavo.cli.terminal import plain_table, stderr, stdout
from octavo.config.quantities import format_bytes
from octavo.core.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.attention_costs import AttentionShape, Cost
    from octavo.bench.attention_times import Blocks
    from octavo.bench.devices import Device

DEVICES = ("cpu", "a100", "h100", "h200", "l40s")
DTYPES = ("bf16", "fp16", "fp32")
SHOWN_NAMES = {"FlashAttention-2, L2": "  keys from L2", "FlashAttention-2 and backward": "  and backward"}
LEAST_OF_MEASURED = {
    "standard": "FlashAttention-2, L2",
    "FlashAttention-1": "FlashAttention-2, L2",
    "FlashAttention-2": "FlashAttention-2, L2",
    "torch SDPA": "FlashAttention-2, L2",
    "FlashAttention-2 and backward": "FlashAttention-2 and backward",
    "torch SDPA and backward": "FlashAttention-2 and backward",
}
MAX_MEASURED_BYTES = 2 << 30
PLOT_SUFFIXES = (".png", ".svg", ".pdf")

explain = typer.Typer(
    cls=HelpfulGroup,
    help="Explain what an operation costs, and what binds it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@explain.callback()
def _explain() -> None:
    """Explain what an operation costs, and what binds it."""


@explain.command(cls=HelpfulCommand)
@with_options()
def attention(
    seqlen: Annotated[int, typer.Option(min=1, max=1 << 20, metavar="N", help="Tokens of the sequence.")] = 4096,
    head_dim: Annotated[int, typer.Option(min=1, max=512, metavar="N", help="Size of a head.")] = 64,
    heads: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Heads, each with keys of its own.")] = 32,
    dtype: Annotated[str, typer.Option(help=f"Type of the tensors: {', '.join(DTYPES)}.")] = "bf16",
    device: Annotated[
        str, typer.Option(help=f"{', '.join(DEVICES)}: this CPU, measured, or a GPU's published peaks.")
    ] = "cpu",
    causal: Annotated[bool, typer.Option("--causal", help="Each token sees those before it only.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the algorithms here, beside what they should take.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the roofline; needs matplotlib.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Compare attention by the standard algorithm, FlashAttention-1 and FlashAttention-2, on one sequence, forward.

    FlashAttention-2 also with its backward pass. Shows operations, bytes moved between memory (HBM) and the processor
    (SRAM), memory beside inputs and outputs, operations a byte, and the least time by the roofline: whichever takes longer,
    arithmetic or memory. Then the operations around it.
    """
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("device", device, DEVICES)
    if plot is not None:
        _check_plot(plot)
    if measure and device != "cpu":
        raise ConfigError(f"--measure times this CPU, and device={device} is another; use device=cpu", param="measure")
    from octavo.bench.attention_costs import AttentionShape, elementwise
    from octavo.bench.devices import GPUS, measure_cpu

    element_bytes = 4 if dtype == "fp32" else 2
    shape = AttentionShape(seqlen=seqlen, head_dim=head_dim, heads=heads, element_bytes=element_bytes, is_causal=causal)
    needed_bytes = 4 * seqlen * (seqlen + 8 * heads * head_dim)
    if measure and needed_bytes > MAX_MEASURED_BYTES:
        raise ConfigError(
            f"seqlen={seqlen} with {heads} heads of {head_dim} takes {format_bytes(needed_bytes)} to measure, most for the standard "
            f"algorithm's scores; allowed {format_bytes(MAX_MEASURED_BYTES)}; lower it, or leave --measure out",
            param="seqlen",
        )
    machine = measure_cpu((dtype,)) if device == "cpu" else GPUS[device]
    blocks_1, blocks_2 = _blocks(machine, shape)
    costs = _algorithms(shape, blocks_1, blocks_2)
    measured = _measured(shape, dtype, blocks_1) if measure else {}
    report = [_row(cost, machine, dtype, measured) for cost in (*costs, *elementwise(shape))]
    if plot is not None:
        _draw(plot, machine, dtype, report)
        stderr().print(f"wrote {plot}", style="dim", soft_wrap=True)
    if as_json:
        blocks = {"FlashAttention-1": blocks_1, "FlashAttention-2": blocks_2}
        facts = {"device": asdict(machine), "shape": asdict(shape), "blocks": blocks, "rows": report}
        print(json.dumps({**facts, "measured_s": measured}, indent=2))
        return
    _print(machine, shape, dtype, (blocks_1, blocks_2), report, measured)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is not one of {', '.join(allowed)}; use one of these", param=name)


def _check_plot(path: Path) -> None:
    """Before anything is measured. Matplotlib would write another file than the one that was named."""
    if path.suffix not in PLOT_SUFFIXES or path.is_dir():
        raise ConfigError(
            f"plot={path} does not end in {', '.join(PLOT_SUFFIXES)}; name a file that does", param="plot"
        )


def _blocks(machine: "Device", shape: "AttentionShape") -> "tuple[Blocks, Blocks]":
    """Of FlashAttention-1 by its paper, blocks in fp32; of FlashAttention-2."""
    from octavo.bench.attention_costs import flash_2_blocks
    from octavo.ops.reference import block_sizes

    return (
        block_sizes(machine.sram_bytes // 4, shape.head_dim),
        flash_2_blocks(machine.sram_bytes, shape.head_dim, shape.element_bytes),
    )


def _algorithms(shape: "AttentionShape", blocks_1: "Blocks", blocks_2: "Blocks") -> "list[Cost]":
    from octavo.bench.attention_costs import (
        flash_attention_1,
        flash_attention_2,
        flash_attention_2_cached,
        flash_attention_2_training,
        standard,
    )

    return [
        standard(shape),
        flash_attention_1(shape, *blocks_1),
        flash_attention_2(shape, *blocks_2),
        flash_attention_2_cached(shape, *blocks_2),
        flash_attention_2_training(shape, *blocks_2),
    ]


def _measured(shape: "AttentionShape", dtype: str, blocks_1: "Blocks") -> dict[str, float]:
    from octavo.bench.attention_times import measure_attention
    from octavo.bench.devices import DTYPES as TORCH_DTYPES

    return measure_attention(shape, TORCH_DTYPES[dtype], blocks_1)


def _row(cost: "Cost", machine: "Device", dtype: str, measured: dict[str, float]) -> dict[str, Any]:
    seconds, is_compute_bound = machine.roofline_s(cost.flops, cost.hbm_bytes, dtype, is_matmul=cost.is_matmul)
    return {
        "name": cost.name,
        "flops": cost.flops,
        "hbm_bytes": cost.hbm_bytes,
        "extra_bytes": cost.extra_bytes,
        "intensity": cost.intensity,
        "is_matmul": cost.is_matmul,
        "roofline_s": seconds,
        "bound_by": "compute" if is_compute_bound else "memory",
        "measured_s": measured.get(cost.name),
    }


def _print(
    machine: "Device",
    shape: "AttentionShape",
    dtype: str,
    blocks: "tuple[Blocks, Blocks]",
    report: list[dict[str, Any]],
    measured: dict[str, float],
) -> None:
    console = stdout()
    mask = "causal" if shape.is_causal else "full"
    console.print(
        f"[bold]Attention[/] of {shape.seqlen:,} tokens, {shape.heads} heads of {shape.head_dim}, {dtype}, {mask}"
    )
    ridge = machine.matmul_flops[dtype] / machine.bytes_per_s
    console.print(
        f"{machine.name}: {machine.matmul_flops[dtype] / 1e12:,.3g} TFLOP/s in {dtype}, {machine.vector_flops / 1e12:,.3g} beside "
        f"the matrix units, {machine.bytes_per_s / 1e9:,.0f} GB/s: compute binds from {ridge:,.0f} operations a byte on\n",
        soft_wrap=True,
    )
    table = plain_table("operation", "FLOPs", "moved", "extra", "FLOP/B", "least", "bound", right=True)
    for number, row in enumerate(report):
        is_last_algorithm = number + 1 < len(report) and row["is_matmul"] and not report[number + 1]["is_matmul"]
        table.add_row(
            f"[cyan]{SHOWN_NAMES.get(row['name'], row['name'])}[/]",
            _count(row["flops"]),
            format_bytes(row["hbm_bytes"]),
            format_bytes(row["extra_bytes"]) if row["extra_bytes"] else "",
            f"{row['intensity']:,.0f}" if row["intensity"] >= 100 else f"{row['intensity']:.3g}",
            _time(row["roofline_s"]),
            row["bound_by"],
            end_section=is_last_algorithm,
        )
    console.print(table)
    if machine.is_measured:
        console.print(
            "\nPeaks are what torch's matrix products and reading reach here now: kernels that use the machine better take less "
            "than «least», and other programs move both.",
            style="dim",
            soft_wrap=True,
        )
    if measured:
        least_s = {row["name"]: row["roofline_s"] for row in report}
        times = plain_table("here", "measured", "of FlashAttention-2's least", right=True)
        for name, seconds in measured.items():
            times.add_row(f"[cyan]{name}[/]", _time(seconds), f"{seconds / least_s[LEAST_OF_MEASURED[name]]:,.1f} ×")
        console.print()
        console.print(times)
    console.print(
        f"\nFlashAttention-1: blocks of {blocks[0][0]} × {blocks[0][1]} from {format_bytes(machine.sram_bytes)} of SRAM; "
        f"FlashAttention-2: {blocks[1][0]} × {blocks[1][1]},\nkeys and values from memory for each block of queries, or "
        "(L2) from a shared cache; with the backward pass, each tensor moved once.",
        style="dim",
        soft_wrap=True,
    )


def _count(number: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:,.3g} {unit}"
    return f"{number:,.0f}"


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:,.2f} ms"


def _draw(path: Path, machine: "Device", dtype: str, report: list[dict[str, Any]]) -> None:
    """The roofline with a point an operation, and one where it was measured."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plot needs matplotlib; run «pip install octavo[plot]»", param="plot") from error

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    lowest, highest = 0.1, 4 * max(row["intensity"] for row in report)
    for peak, label in (
        (machine.matmul_flops[dtype], f"{dtype} matrix products"),
        (machine.vector_flops, "vector units"),
    ):
        ridge = peak / machine.bytes_per_s
        axes.plot([lowest, ridge, max(highest, 4 * ridge)], [lowest * machine.bytes_per_s, peak, peak], label=label)
    for number, row in enumerate(sorted(report, key=lambda row: row["intensity"])):
        reached = row["flops"] / row["roofline_s"]
        axes.plot(row["intensity"], reached, "o", color="tab:blue" if row["is_matmul"] else "tab:orange")
        place, side = ((4, -10), "left") if number % 2 else ((-4, 6), "right")  # neighbours on both sides of the line
        axes.annotate(
            row["name"], (row["intensity"], reached), xytext=place, ha=side, textcoords="offset points", fontsize=8
        )
        if row["measured_s"]:
            axes.plot(row["intensity"], row["flops"] / row["measured_s"], "x", color="tab:red")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations a byte of HBM",
        ylabel="operations a second",
        title=f"Roofline of {machine.name}",
    )
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(loc="lower right")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"plot={path} cannot be written: {error}", param="plot") from error
