"""`docs/comparison.md`, made from the JSON of the groups."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Report = Mapping[str, Any]

TITLES = {
    "smollm2": "SmolLM2-135M, from a 4-bit GGUF file",
    "gemma3-270m": "Gemma-3-270M, from a 4-bit GGUF file",
    "smollm2-bf16": "SmolLM2-135M, from bf16 safetensors",
}
ROW_TITLES = {
    "decode1": "decode, 1",
    "decode8": "decode, 8",
    "decode32": "decode, 32",
    "prefill1": "prefill, 1",
    "prefill16": "prefill, 16",
}
START = "start"


class Column(NamedTuple):
    key: str
    title: str
    is_more_better: bool
    digits: int


class Cell(NamedTuple):
    median: float
    low: float
    high: float
    percent_of_limit: float | None
    is_disturbed: bool


def page(reports: Sequence[Report]) -> str:
    """Of at least one report."""
    lines = ["# Comparison", "", *_preamble(reports[0])]
    for report in reports:
        lines += ["", f"## {TITLES[report['group']]}", "", *_group(report)]
    lines += ["", "## What was run", "", *_engines(reports), "", "## How it is measured", "", *_method(reports[0])]
    lines += ["", "## What cannot be compared", "", *LIMITATIONS]
    return "\n".join(lines) + "\n"


def _preamble(report: Report) -> list[str]:
    hardware, software = report["hardware"], report["software"]
    return [
        "Written by `make compare` from `bench/results/compare-*.json`. Octavo beside other engines on one machine, in turn,",
        "on the same token ids.",
        "",
        f"Machine: {hardware['cpu']}, {report['threads']} threads. Octavo {software['octavo']}, commit "
        f"{software['commit']}, Python {software['python']}.",
        *(["", "**A quick try: too short to quote.**"] if report["is_quick"] else []),
    ]


def _group(report: Report) -> list[str]:
    engines = {key: engine for key, engine in report["engines"].items() if engine["refused"] is None}
    refused = [engine for engine in report["engines"].values() if engine["refused"] is not None]
    columns = _columns(report)
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " | memory, 1 | memory, 32 |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    best = {column.key: _best_peer(engines, column) for column in columns}
    for key, engine in engines.items():
        cells = [_shown(_cell(engine, column), column, is_best=best[column.key] == key) for column in columns]
        lines.append(f"| {engine['name']} | " + " | ".join([*cells, *_memory(engine)]) + " |")
    for engine in engines.values():
        if engine["is_octavo"]:
            ratios = [_ratio(engine, engines.get(best[column.key] or ""), column) for column in columns]
            lines.append(f"| *{engine['name']} ÷ best peer* | " + " | ".join(ratios) + " | | |")
    lines += ["", _limits(report), "", _agreement(engines)]
    for engine in refused:
        lines += ["", f"{engine['name']} is left out: {engine['refused']}"]
    return lines


def _columns(report: Report) -> list[Column]:
    shapes = report["shapes"]
    columns = []
    for key, shape in shapes.items():
        lengths = f"{shape['input_len']}/{shape['output_len']}" if shape["output_len"] > 1 else f"{shape['input_len']}"
        columns.append(Column(key, f"{ROW_TITLES[key]} ({lengths}) tok/s", is_more_better=True, digits=0))
    if report["method"]["start_rounds"]:
        columns.append(Column(START, "start s", is_more_better=False, digits=2))
    return columns


def _cell(engine: Report, column: Column) -> Cell | None:
    figures = engine["start_s"] if column.key == START else engine["rows"].get(column.key)
    if figures is None:
        return None
    return Cell(
        figures["median"], figures["min"], figures["max"], figures.get("percent_of_limit"), figures["num_disturbed"] > 0
    )


def _best_peer(engines: Mapping[str, Report], column: Column) -> str | None:
    cells = {key: _cell(engine, column) for key, engine in engines.items() if not engine["is_octavo"]}
    medians = {key: cell.median for key, cell in cells.items() if cell is not None}
    if not medians:
        return None
    return (max if column.is_more_better else min)(medians, key=lambda key: medians[key])


def _shown(cell: Cell | None, column: Column, *, is_best: bool) -> str:
    if cell is None:
        return "–"
    median, low, high = (f"{value:,.{column.digits}f}" for value in (cell.median, cell.low, cell.high))
    share = "" if cell.percent_of_limit is None else f" {cell.percent_of_limit:.0f}%"
    mark = r"\*" if cell.is_disturbed else ""
    return f"{f'**{median}**' if is_best else median} ({low}–{high}){share}{mark}"


def _ratio(engine: Report, peer: Report | None, column: Column) -> str:
    ours, theirs = _cell(engine, column), _cell(peer, column) if peer else None
    return "–" if ours is None or theirs is None else f"{ours.median / theirs.median:.2f}"


def _memory(engine: Report) -> list[str]:
    peaks = (engine["start_peak_bytes"], engine["peak_bytes"])
    return ["–" if peak is None else f"{(peak - engine['weight_bytes']) / 1e6:,.0f} MB" for peak in peaks]


def _limits(report: Report) -> str:
    limits = report["limits"]
    return (
        f"Limits measured in this run: memory is read at {limits['read_gb_per_s']:.0f} GB/s, the last-level cache at "
        f"{limits['read_cached_gb_per_s']:.0f} GB/s; fp32 {limits['fp32_gop_per_s'] / 1e3:.2f}, "
        f"bf16 {limits['bf16_gop_per_s'] / 1e3:.1f} ({limits['bf16_with']}), "
        f"int8 {limits['int8_gop_per_s'] / 1e3:.1f} ({limits['int8_with']}) TOP/s."
    )


def _agreement(engines: Mapping[str, Report]) -> str:
    same = [
        f"{engine['name']} {engine['greedy']['common_prefix_with_octavo']}"
        for key, engine in engines.items()
        if key != "octavo"
    ]
    count = max((len(engine["greedy"]["token_ids"]) for engine in engines.values()), default=0)
    return f"Of {count} greedy tokens after one prompt, as many are the same as Octavo's before the first that differs: {', '.join(same)}."


def _engines(reports: Sequence[Report]) -> list[str]:
    lines = [
        "| model | engine | file | weights | bound by the peak of | settings | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        for engine in report["engines"].values():
            if engine["refused"] is not None:
                continue
            settings = {**engine["options"], **engine["settings"]}
            options = ", ".join(f"{name}={value}" for name, value in settings.items() if name != "features")
            versions = ", ".join(f"{name} {value}" for name, value in engine["versions"].items())
            lines.append(
                f"| {report['group']} | {engine['name']} | {engine['file']}, {engine['weight_bytes'] / 1e6:,.0f} MB "
                f"| {engine['weights']} | {engine['arithmetic']} | {options} | {versions} |"
            )
    return [*lines, "", *SETTINGS]


SETTINGS = (
    "Every engine gets the number of threads, no prefix caching, greedy sampling past the end token, room for 32 requests of",
    "640 tokens, and no tokenizer's work. llama.cpp is built for this machine, with its AMX buffers, one stream of cache a",
    "sequence, and flash attention off: of the settings tried the fastest for decode; with it on, prompts were about 1.4 times",
    "as fast as shown. Its tokens are chosen by numpy, faster than its own greedy sampler. OpenVINO GenAI runs its continuous",
    "batching pipeline; vLLM its CPU back end, compiled by inductor and stepped in the worker's process; transformers its",
    "`generate`, one static batch. bf16 and Q4_0 files are made of the GGUF file.",
)


def _method(report: Report) -> list[str]:
    method = report["method"]
    return [
        f"Engines are loaded once, each in a process of its own, and take turns at every row, {method['rounds']} rounds of new",
        f"random prompts, the same for all; before, {method['warmup']}.",
        "Shown are the median, (minimum–maximum), and the median's share of the limit. The best peer is bold.",
        "",
        "- decode is the tokens after the first of each request, over the time from when all have their first to the end;",
        "  prefill the prompts' tokens, over the time until all have their first.",
        "- start is the time of a fresh process from its beginning to the first token after a prompt of "
        f"{method['start_prompt_len']}: interpreter,",
        f"  imports, load; files are in the page cache; measured {method['start_rounds']} times, in turn. Less is better.",
        "- memory is the most that was resident, less the file's size: of the fresh process (1), and after all rows (32).",
        "- the limit of decode is the file's bytes over the larger of the two rates of reading, or 2·parameters·requests over the",
        "  arithmetic's peak, whichever takes longer; of prefill 2·parameters·tokens over the peak, without the embedding, which",
        "  only a prompt's last token meets. Both leave out attention, so no engine reaches them.",
        "- during each sample the CPU time of others is watched; a sample in which they took more than a twentieth of a core is",
        f"  repeated up to {method['repeats_of_disturbed_samples']} times, and \\* marks what stayed disturbed.",
    ]


LIMITATIONS = (
    "- A bf16 engine reads about three times the bytes of the 4-bit file, and keeps more of what the model knows; quality is",
    "  not measured here. Q4_0 and int8 weights are other numbers, too, so greedy tokens part sooner or later.",
    "- vLLM compiles at every start, which dominates its start; a server pays for it once.",
    "- transformers computes static batches: with requests of different lengths it would do worse than shown.",
    "- Engines reserve their caches differently: memory at 32 requests has llama.cpp's whole cache in it, of others what they",
    "  touched; vLLM's memory has its compiler in it.",
    "- Small models on two cores: the order may be another for large ones, or for many cores.",
)
