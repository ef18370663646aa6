"""What is measured, a generator a part: each result as soon as it is there.

A result is {"part", "dtype", "shape", "has_backward", "sides"}, a side {"median_ms", "min_ms", "spread_ms", "repeats"} and
"GFLOP_s", "GB_s" or "peak_MB".
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, product
from typing import Any

import torch
from attention_parts.memory import peak_mb
from attention_parts.runs import (
    DTYPES,
    Inputs,
    Run,
    Shape,
    differentiated,
    octavo_run,
    random_inputs,
    standard_run,
    torch_run,
    work_gflop,
)
from timing import MIN_REPEATS, summary, timed

from octavo import ops
from octavo.ops import AttentionOptions, AttentionPlan, flash_attn_varlen_func, flash_attn_with_kvcache

Result = dict[str, Any]
HEADS = 8
FORWARD_TOKENS = (512, 1024, 2048, 4096, 8192)
BACKWARD_TOKENS = (512, 2048, 8192)
LONG_TOKENS, MIN_REPEATS_OF_LONG = 8192, 3
NEIGHBOURS = (64, 80, 96)
NEIGHBOUR_TOKENS = 2048
VARLEN_REQUESTS, VARLEN_TOKENS, DENSE_TOKENS = 16, 8192, 4096
MEMORY_TOKENS, MEMORY_STANDARD_MAX_TOKENS = (1024, 4096, 16384), 4096
BLOCK_SIZE = 16
DECODE_HEADS = ((8, 8), (9, 3))
DECODE_HEAD_SIZES = {"bf16": (64, 128), "fp16": (64,), "fp32": (64,)}
DECODE_REQUESTS, DECODE_KEYS = (1, 8, 32), (512, 4096)


def forward(seconds: float, threads: int) -> Iterator[Result]:
    for dtype, size, tokens, is_causal in product(DTYPES, (64, 128), FORWARD_TOKENS, (True, False)):
        yield beside_torch("forward", dtype, Shape(tokens, HEADS, size, is_causal), seconds)


def backward(seconds: float, threads: int) -> Iterator[Result]:
    for dtype, size, tokens, is_causal in product(DTYPES, (64, 128), BACKWARD_TOKENS, (True, False)):
        yield beside_torch("backward", dtype, Shape(tokens, HEADS, size, is_causal), seconds)


def beside_torch(part: str, dtype: str, shape: Shape, seconds: float) -> Result:
    how = {"is_causal": shape.is_causal, "has_backward": part == "backward"}
    runs = {
        "octavo": octavo_run(random_inputs(shape, dtype), **how),
        "torch": torch_run(random_inputs(shape, dtype, heads_first=True), **how),
    }
    gflop = work_gflop(shape, has_backward=part == "backward")
    sides = sides_of(runs, dict.fromkeys(runs, gflop), seconds, is_long=shape.tokens >= LONG_TOKENS)
    return result(part, dtype, shape._asdict(), sides, has_backward=part == "backward")


def heads(seconds: float, threads: int) -> Iterator[Result]:
    """A head size that is no multiple of 32, beside the multiples around it."""
    for dtype, has_backward in product(DTYPES, (False, True)):
        shapes = {str(size): Shape(NEIGHBOUR_TOKENS, HEADS, size, is_causal=True) for size in NEIGHBOURS}
        runs = {
            name: octavo_run(random_inputs(shape, dtype), is_causal=True, has_backward=has_backward)
            for name, shape in shapes.items()
        }
        work = {name: work_gflop(shape, has_backward=has_backward) for name, shape in shapes.items()}
        shape = shapes["64"]._asdict() | {"head_size": list(NEIGHBOURS)}
        yield result("heads", dtype, shape, sides_of(runs, work, seconds), has_backward=has_backward)


def varlen(seconds: float, threads: int) -> Iterator[Result]:
    """Requests of mixed lengths: end to end, one call each, padded to the longest, and in proportion of batches of each length."""
    lengths, size = mixed_lengths(VARLEN_REQUESTS, VARLEN_TOKENS), 64
    each = [Shape(length, HEADS, size, is_causal=True) for length in lengths]
    padded = Shape(max(lengths), HEADS, size, is_causal=True, batch=len(lengths))
    batches = [max(1, round(DENSE_TOKENS / length)) for length in lengths]
    for dtype, has_backward in product(DTYPES, (False, True)):
        how = {"is_causal": True, "has_backward": has_backward}
        x = random_inputs(Shape(VARLEN_TOKENS, HEADS, size, is_causal=True), dtype)
        parts = zip(*(t.split(lengths, dim=1) for t in x), strict=True)
        apart = [octavo_run(Inputs(*tensors), **how) for tensors in parts]
        dense = [
            octavo_run(random_inputs(shape._replace(batch=batch), dtype), **how)
            for shape, batch in zip(each, batches, strict=True)
        ]
        runs: list[Run] = [
            varlen_run(x, lengths, has_backward=has_backward),
            partial(run_all, apart),
            octavo_run(random_inputs(padded, dtype), **how),
            *dense,
        ]
        end_to_end, one_by_one, with_padding, *of_batches = timed(runs, seconds)
        in_proportion = [
            sum(time / batch for time, batch in zip(times, batches, strict=True))
            for times in zip(*of_batches, strict=True)
        ]
        useful = sum(work_gflop(shape, has_backward=has_backward) for shape in each)
        sides = {
            "varlen": side(end_to_end, useful),
            "dense": side(in_proportion, useful),
            "apart": side(one_by_one, useful),
            "padded": side(with_padding, work_gflop(padded, has_backward=has_backward)),
        }
        shape = padded._asdict() | {"tokens": lengths, "batch": 1, "dense_batches": batches}
        yield result("varlen", dtype, shape, sides, has_backward=has_backward)


def mixed_lengths(count: int, total: int) -> list[int]:
    """From short to long, each as probable as its double; drawn once for all."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.exp2(6 * torch.rand(count, generator=generator, dtype=torch.float64))
    ends = (weights.cumsum(0) / weights.sum() * total).round().int().tolist()
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def varlen_run(x: Inputs, lengths: Sequence[int], *, has_backward: bool) -> Run:
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        longest = max(lengths)
        return flash_attn_varlen_func(q, k, v, starts, starts, longest, longest, causal=True)

    return differentiated(attend, Inputs(*(t[0] for t in x)), has_backward=has_backward)


def run_all(runs: Sequence[Run]) -> None:
    for run in runs:
        run()


def memory(seconds: float, threads: int) -> Iterator[Result]:
    """Time and peak memory beside the standard algorithm, where its scores fit."""
    for dtype, tokens, has_backward in product(("bf16", "fp32"), MEMORY_TOKENS, (False, True)):
        shape = Shape(tokens, HEADS, 64, is_causal=True)
        how = {"is_causal": True, "has_backward": has_backward}
        sides: dict[str, Any] = {"octavo": {}, "torch": {}}
        if tokens <= MEMORY_STANDARD_MAX_TOKENS:
            x = random_inputs(shape, dtype, heads_first=True)
            runs = {
                "octavo": octavo_run(random_inputs(shape, dtype), **how),
                "torch": torch_run(x, **how),
                "standard": standard_run(x, **how),
            }
            gflop = work_gflop(shape, has_backward=has_backward)
            sides = sides_of(runs, dict.fromkeys(runs, gflop), seconds, is_long=True)
        for algorithm in sides:
            sides[algorithm]["peak_MB"] = peak_mb(algorithm, dtype, shape, has_backward=has_backward, threads=threads)
        yield result("memory", dtype, shape._asdict(), sides, has_backward=has_backward)


def decode(seconds: float, threads: int) -> Iterator[Result]:
    """One new token a request over a paged cache: the engine's call, whose queries are fp32, and the library's."""
    for dtype in DTYPES:
        for size, (num_heads, kv_heads), requests, keys in product(
            DECODE_HEAD_SIZES[dtype], DECODE_HEADS, DECODE_REQUESTS, DECODE_KEYS
        ):
            k_cache, v_cache, tables = paged(requests, keys, kv_heads, size, DTYPES[dtype])
            q, lens = torch.randn(requests, num_heads, size), torch.full((requests,), keys, dtype=torch.int32)
            plan = AttentionPlan(
                query_starts=torch.arange(requests + 1).int(), seq_lens=lens, block_tables=tables, block_size=BLOCK_SIZE
            )
            options = AttentionOptions(scale=size**-0.5, window_right=0)
            rows = q[:, None].to(DTYPES[dtype])
            runs: dict[str, Run] = {
                "paged_attention": partial(ops.paged_attention, q, k_cache, v_cache, plan, options),
                "flash_attn_with_kvcache": partial(
                    flash_attn_with_kvcache, rows, k_cache, v_cache, cache_seqlens=lens, block_table=tables, causal=True
                ),
            }
            gigabytes = 2e-9 * requests * keys * kv_heads * size * k_cache.element_size()
            sides = sides_of(runs, dict.fromkeys(runs, gigabytes), seconds / 3, rate="GB_s")
            shape = {"requests": requests, "keys": keys, "heads": num_heads, "kv_heads": kv_heads, "head_size": size}
            yield result("decode", dtype, shape | {"block_size": BLOCK_SIZE}, sides, has_backward=False)


def paged(
    num_requests: int, keys: int, kv_heads: int, size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random caches, laid out as worker/kv_cache.py does, and a block table a request."""
    blocks = -(-keys // BLOCK_SIZE)
    shape = (num_requests * blocks + 1, kv_heads, BLOCK_SIZE, size)
    tables = 1 + torch.arange(num_requests * blocks).view(num_requests, blocks)
    k_cache, v_cache = (torch.randn(shape, dtype=dtype).transpose(1, 2) for _ in range(2))
    return k_cache, v_cache, tables.int()


def sides_of(
    runs: Mapping[str, Run], work: Mapping[str, float], seconds: float, *, is_long: bool = False, rate: str = "GFLOP_s"
) -> dict[str, Any]:
    """Medians of runs in turn."""
    times = timed(list(runs.values()), seconds, min_repeats=MIN_REPEATS_OF_LONG if is_long else MIN_REPEATS)
    return {name: side(own, work[name], rate) for name, own in zip(runs, times, strict=True)}


def side(times: Sequence[float], work: float, rate: str = "GFLOP_s") -> dict[str, Any]:
    """The summary of times, and the rate: the work, in 10⁹ of it, over the median."""
    return summary(times) | {rate: work / statistics.median(times)}


def result(part: str, dtype: str, shape: Mapping[str, Any], sides: Mapping[str, Any], *, has_backward: bool) -> Result:
    return {"part": part, "dtype": dtype, "has_backward": has_backward, "shape": dict(shape), "sides": dict(sides)}


PARTS: Mapping[str, Callable[[float, int], Iterator[Result]]] = {
    "forward": forward,
    "backward": backward,
    "heads": heads,
    "varlen": varlen,
    "memory": memory,
    "decode": decode,
}
