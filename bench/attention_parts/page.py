"""The measured section of `docs/attention.md`, made from the JSON; a part that was not measured is left out."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Result = Mapping[str, Any]
START, END = "<!-- measured: written by bench/attention.py -->", "<!-- end of measured -->"


def with_section(page: str, record: Record) -> str:
    """The page with what lies between the markers replaced. Raises ValueError where it has none."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the page lacks a marker: {START} … {END}")
    return before + "\n".join([START, *section(record), END]) + after


def section(record: Record) -> list[str]:
    lines = _preamble(record)
    for title, part, write in PARTS:
        if results := [result for result in record["results"] if result["part"] == part]:
            lines += ["", f"### {title}", "", *write(results, record)]
    return lines


def _preamble(record: Record) -> list[str]:
    hardware, software, limits = record["hardware"], record["software"], record["limits"]
    return [
        f"By `{record['command']}`; `make bench-attention` repeats it. {hardware['cpu']}, {record['threads']} threads, "
        f"{record['isa']}; bf16",
        f"products reach {limits['bf16_gop_per_s'] / 1e3:.1f} TFLOP/s here, and memory is read at "
        f"{limits['read_gb_per_s']:.0f} GB/s. Octavo {software['octavo']}, commit {software['commit']}, torch {software['torch']},",
        f"Python {software['python']}. What is compared ran in turn; medians, after {record['warm_up']} to warm up, of "
        f"{record['min_repeats']} repeats or more, of long cases {record['min_repeats_of_long']} or more.",
        "Spreads and minima are in `bench/results/attention.json`.",
    ]


def _beside_torch(results: Sequence[Result], record: Record) -> list[str]:
    """A row a kind of attention, a column a length."""
    rows: dict[tuple[str, int, bool], dict[int, Result]] = {}
    for result in results:
        shape = result["shape"]
        rows.setdefault((result["dtype"], shape["head_size"], shape["is_causal"]), {})[shape["tokens"]] = result
    lengths = sorted({result["shape"]["tokens"] for result in results})
    peak = record["limits"]["bf16_gop_per_s"]
    ratios = [_ratio(result) for result in results]
    what = "4·D operations for each key that a row of a head sees"
    if results[0]["has_backward"]:
        what = "14·D operations for each key that a row of a head sees, both passes"
    return [
        f"One sequence, {results[0]['shape']['heads']} heads. GFLOP/s, {what}; in brackets how many times that is",
        "`scaled_dot_product_attention` of torch on (batch, heads, tokens, size), contiguous: "
        f"{min(ratios):.2f} to {max(ratios):.2f}, the median {statistics.median(ratios):.2f}.",
        "",
        *_table(
            [
                "type, head size",
                *(f"{length:,} tokens" for length in lengths),
                f"of the bf16 peak, {lengths[-1]:,}",
            ],
            (
                [
                    f"{dtype}, {size}, {'causal' if is_causal else 'full'}",
                    *(_rate_and_ratio(row[length]) for length in lengths),
                    f"{row[lengths[-1]]['sides']['octavo']['GFLOP_s'] / peak:.0%}" if dtype == "bf16" else "",
                ]
                for (dtype, size, is_causal), row in rows.items()
            ),
        ),
    ]


def _heads(results: Sequence[Result], record: Record) -> list[str]:
    sizes = list(results[0]["sides"])
    shape = results[0]["shape"]
    return [
        f"A head of 80 is no multiple of the 32 numbers that a tile's product takes at a time. {shape['tokens']:,} tokens, "
        f"{shape['heads']} heads, causal.",
        "",
        *_table(
            ["", *(f"size {size}" for size in sizes), "80 ÷ 96"],
            (
                [
                    _name(result),
                    *(_ms(result["sides"][size]) for size in sizes),
                    f"{result['sides']['80']['median_ms'] / result['sides']['96']['median_ms']:.2f}",
                ]
                for result in results
            ),
        ),
    ]


def _varlen(results: Sequence[Result], record: Record) -> list[str]:
    shape = results[0]["shape"]
    lengths, batches = sorted(shape["tokens"]), shape["dense_batches"]
    titles = {
        "varlen": "end to end",
        "dense": "in proportion",
        "apart": "a call each",
        "padded": "padded",
    }
    return [
        f"{len(lengths)} requests of {', '.join(map(str, lengths))} tokens, {shape['heads']} heads of {shape['head_size']}, "
        "causal.",
        "`flash_attn_varlen_func` has them end to end. Beside it `flash_attn_func`: on batches of one length each, of "
        f"{min(batches)} to {max(batches)} requests, counted",
        "in proportion; one request a call; and all in one batch, padded to the longest.",
        "",
        *_table(
            ["", *titles.values(), "end to end ÷ in proportion", "padded ÷ end to end"],
            (
                [
                    _name(result),
                    *(_ms(result["sides"][name]) for name in titles),
                    f"{_quotient(result, 'varlen', 'dense'):.2f}",
                    f"{_quotient(result, 'padded', 'varlen'):.1f}",
                ]
                for result in results
            ),
        ),
    ]


def _memory(results: Sequence[Result], record: Record) -> list[str]:
    shape = results[0]["shape"]
    sides = ("octavo", "torch", "standard")
    return [
        f"{shape['heads']} heads of {shape['head_size']}, causal. Memory is the most that was resident during the call above the "
        "inputs, results included, in a",
        "process of its own; the standard algorithm is torch's products and softmax, its scores in memory.",
        "",
        *_table(
            ["", "tokens", *(f"{_SIDE_TITLES[side]}: time, memory" for side in sides)],
            (
                [
                    _name(result),
                    f"{result['shape']['tokens']:,}",
                    *(_time_and_memory(result["sides"].get(side)) for side in sides),
                ]
                for result in results
            ),
        ),
    ]


def _decode(results: Sequence[Result], record: Record) -> list[str]:
    rows: dict[tuple[str, int, int, int], dict[tuple[int, int], Result]] = {}
    for result in results:
        shape = result["shape"]
        row = rows.setdefault((result["dtype"], shape["head_size"], shape["heads"], shape["kv_heads"]), {})
        row[shape["requests"], shape["keys"]] = result
    cases = sorted({case for row in rows.values() for case in row}, key=lambda case: (case[1], case[0]))
    overhead_ms = statistics.median(
        result["sides"]["flash_attn_with_kvcache"]["median_ms"] - result["sides"]["paged_attention"]["median_ms"]
        for result in results
    )
    return [
        f"One token a request over blocks of {results[0]['shape']['block_size']}, the cache of the type shown. GB/s of keys and "
        "values: `paged_attention` of fp32 queries, as",
        "the engine calls it / `flash_attn_with_kvcache`, which makes its plan in each call: the median over the cases is "
        f"{overhead_ms:.2f} ms more.",
        "",
        *_table(
            ["type, head size, heads", *(f"{requests} × {keys:,} keys" for requests, keys in cases)],
            (
                [
                    f"{dtype}, {size}, {heads}/{kv_heads}",
                    *(
                        " / ".join(f"{side['GB_s']:.1f}" for side in row[case]["sides"].values()) if case in row else ""
                        for case in cases
                    ),
                ]
                for (dtype, size, heads, kv_heads), row in rows.items()
            ),
        ),
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _name(result: Result) -> str:
    return f"{result['dtype']}, {'forward and backward' if result['has_backward'] else 'forward'}"


def _ratio(result: Result) -> float:
    return _quotient(result, "torch", "octavo")


def _quotient(result: Result, above: str, below: str) -> float:
    return result["sides"][above]["median_ms"] / result["sides"][below]["median_ms"]


def _rate_and_ratio(result: Result) -> str:
    return f"{result['sides']['octavo']['GFLOP_s']:,.0f} ({_ratio(result):.2f})"


def _ms(side: Mapping[str, float]) -> str:
    return f"{side['median_ms']:,.1f} ms"


def _time_and_memory(side: Mapping[str, float] | None) -> str:
    if side is None:
        return ""
    peak = f"{side['peak_MB']:,.0f} MB"
    return f"{_ms(side)}, {peak}" if "median_ms" in side else peak


_SIDE_TITLES = {"octavo": "Octavo", "torch": "torch", "standard": "standard"}
PARTS = (
    ("Forward", "forward", _beside_torch),
    ("Forward and backward", "backward", _beside_torch),
    ("Head sizes", "heads", _heads),
    ("Requests of mixed lengths", "varlen", _varlen),
    ("Memory", "memory", _memory),
    ("Decoding", "decode", _decode),
)
