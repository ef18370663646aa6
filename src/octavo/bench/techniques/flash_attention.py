"""FlashAttention: softmax is computed tile by tile, or over a matrix of scores that lies in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from octavo import ops
from octavo.bench.attention_costs import AttentionShape, flash_attention_2_cached, standard
from octavo.bench.devices import best_s
from octavo.bench.techniques.attention_memory import peak_bytes
from octavo.bench.techniques.attention_run import attend
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit
from octavo.config.quantities import format_bytes

LENGTHS = (512, 1024, 2048, 4096)
_SECONDS, _MIN_REPEATS = 0.1, 2


def shape_of(subject: Subject, seqlen: int) -> AttentionShape:
    """The model's heads, each with keys of its own."""
    attention = subject.spec.layers[0].mixer.shape
    return AttentionShape(
        seqlen=seqlen, head_dim=attention.head_dim, heads=attention.num_heads, element_bytes=2, is_causal=True
    )


def lengths(subject: Subject) -> list[int]:
    """Up to the longest prompt; the last is the one that is compared."""
    most = max(subject.sizes.long_prompt_len, 1)
    return [length for length in LENGTHS if length <= most] or [most]


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    """Peak memory is measured once, in a process of its own: it does not vary."""
    threads = subject.info.options["threads"]
    ops.set_num_threads(threads)
    torch.set_num_threads(threads)
    shapes = [shape_of(subject, length) for length in lengths(subject)]
    peaks = cache(lambda is_on: peak_bytes(is_on, shapes, threads))

    def measure(is_on: bool, seed: int) -> Sample:
        times = [best_s(attend(is_on, shape, seed), _SECONDS, _MIN_REPEATS) for shape in shapes]
        memory = peaks(is_on)
        return Sample(
            values={"time_s": times[-1], "peak_bytes": memory[-1]},
            curves={
                "time": [Point(shape.seqlen, seconds) for shape, seconds in zip(shapes, times, strict=True)],
                "memory": [Point(shape.seqlen, num_bytes) for shape, num_bytes in zip(shapes, memory, strict=True)],
            },
        )

    yield measure


def _why(subject: Subject) -> str:
    longest = lengths(subject)[-1]
    shape = shape_of(subject, longest)
    tiles = flash_attention_2_cached(shape, block_rows=128, block_columns=64)
    return (
        f"Standard attention writes the N × N scores of a head, reads them for the softmax and reads its result again: "
        f"b·(4·N·D + 4·N²) bytes a head. Tile by tile, with the maximum and the sum of each row carried along, they never leave "
        f"the caches: b·4·N·D bytes. For {shape.heads} heads of {shape.head_dim} and {longest:,} tokens that is "
        f"{format_bytes(standard(shape).hbm_bytes)} against {format_bytes(tiles.hbm_bytes)}; and tiles above the diagonal "
        f"are never computed, half of the arithmetic. Memory beside the inputs grows with N instead of N². The result is "
        f"exact either way. Standard attention here is torch's matrix products and softmax in bf16, a head at a time."
    )


FLASH_ATTENTION = Technique(
    name="flash-attention",
    title="FlashAttention",
    on="softmax tile by tile, scores stay in the caches (octavo.ops.flash_attn_func)",
    off="scores and probabilities in memory, by torch's products and softmax",
    figures=(
        Figure(name="time_s", label="causal attention of the longest prompt, one layer", unit=Unit.SECONDS),
        Figure(name="peak_bytes", label="peak memory beside its inputs", unit=Unit.BYTES),
    ),
    plots=(
        Plot(name="time", title="Time", x_label="tokens", unit=Unit.SECONDS, is_log=True),
        Plot(name="memory", title="Peak memory beside the inputs", x_label="tokens", unit=Unit.BYTES, is_log=True),
    ),
    because="Scores, N² of them, never go to memory; what is left to move grows with N, and tiles that a mask hides are skipped.",
    why=_why,
    open=_open,
    warm_up=0,
)
