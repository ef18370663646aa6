"""What attention costs by each algorithm, in closed form, and what the operations around it do.

N tokens, D head size, H heads, b bytes an element, S elements that fit SRAM. The tile loops of `octavo.ops.reference` count the
same.
"""

from dataclasses import dataclass, replace
from math import ceil

STATISTIC_BYTES = 4
"""Softmax statistics are fp32 whatever the tensors are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    seqlen: int
    head_dim: int
    heads: int
    element_bytes: int
    is_causal: bool

    @property
    def matrix_bytes(self) -> int:
        """Of one of q, k, v and o, all heads."""
        return self.heads * self.seqlen * self.head_dim * self.element_bytes

    @property
    def scores(self) -> int:
        """Elements of all heads' N × N matrices."""
        return self.heads * self.seqlen**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    name: str
    flops: int
    hbm_bytes: int
    """Moved between HBM and SRAM."""
    extra_bytes: int
    """Of memory, beside inputs and outputs."""
    is_matmul: bool = True
    """Whether matrix units do it, or the vector units."""

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.hbm_bytes


def standard(shape: AttentionShape) -> Cost:
    """Scores and probabilities in memory: 4·N²·D operations, b·(4·N·D + 4·N²) bytes a head; a mask does not spare any."""
    return Cost(
        name="standard",
        flops=4 * shape.heads * shape.seqlen**2 * shape.head_dim,
        hbm_bytes=4 * shape.matrix_bytes + 4 * shape.scores * shape.element_bytes,
        extra_bytes=2 * shape.scores * shape.element_bytes,
    )


def flash_attention_1(shape: AttentionShape, block_rows: int, block_columns: int) -> Cost:
    """b·(3·N·D + 3·N·D·⌈N / B_c⌉) a head, and l and m with every pass of the output; causal: only pairs of blocks seen."""
    n, d, b = shape.seqlen, shape.head_dim, shape.element_bytes
    rows = [n - _first_row(column, block_rows, shape) for column in range(0, n, block_columns)]
    pairs = sum(seen * min(block_columns, n - i * block_columns) for i, seen in enumerate(rows))
    start = n * (d * b + 2 * STATISTIC_BYTES)
    return Cost(
        name="FlashAttention-1",
        flops=4 * shape.heads * pairs * d,
        hbm_bytes=shape.heads * (start + 2 * n * d * b + sum(rows) * (3 * d * b + 4 * STATISTIC_BYTES)),
        extra_bytes=shape.heads * 2 * n * STATISTIC_BYTES,
    )


def flash_attention_2(shape: AttentionShape, block_rows: int, block_columns: int) -> Cost:
    """b·(2·N·D + 2·N·D·⌈N / B_r⌉) a head and lse; causal: only the blocks of keys seen. Keys and values from HBM each time."""
    n, d, b = shape.seqlen, shape.head_dim, shape.element_bytes
    keys = [_num_keys(row, block_rows, block_columns, shape) for row in range(0, n, block_rows)]
    pairs = sum(seen * min(block_rows, n - i * block_rows) for i, seen in enumerate(keys))
    return Cost(
        name="FlashAttention-2",
        flops=4 * shape.heads * pairs * d,
        hbm_bytes=shape.heads * (2 * n * d * b + 2 * sum(keys) * d * b + n * STATISTIC_BYTES),
        extra_bytes=shape.heads * n * STATISTIC_BYTES,
    )


def flash_attention_2_cached(shape: AttentionShape, block_rows: int, block_columns: int) -> Cost:
    """The same where a cache that the processors share keeps keys and values: b·4·N·D a head and lse, each tensor moved once."""
    return replace(
        flash_attention_2(shape, block_rows, block_columns),
        name="FlashAttention-2, L2",
        hbm_bytes=4 * shape.matrix_bytes + shape.heads * shape.seqlen * STATISTIC_BYTES,
    )


def flash_attention_2_training(shape: AttentionShape, block_rows: int, block_columns: int) -> Cost:
    """The same and its backward pass, five products to the two before, that at best reads q, k, v, o and do and writes dq, dk and
    dv once: b·12·N·D a head, and lse and δ."""
    forward = flash_attention_2_cached(shape, block_rows, block_columns)
    statistics = shape.heads * shape.seqlen * STATISTIC_BYTES
    return replace(
        forward,
        name="FlashAttention-2 and backward",
        flops=forward.flops // 2 * 7,
        hbm_bytes=12 * shape.matrix_bytes + 4 * statistics,  # each written and read
        extra_bytes=2 * statistics,
    )


def _first_row(column: int, block_rows: int, shape: AttentionShape) -> int:
    """The first row of the first block of queries that sees a block of keys."""
    return column // block_rows * block_rows if shape.is_causal else 0


def _num_keys(row: int, block_rows: int, block_columns: int, shape: AttentionShape) -> int:
    """How many keys a block of queries reads: all blocks of keys that its last row sees."""
    if not shape.is_causal:
        return shape.seqlen
    seen = min(shape.seqlen, row + block_rows)
    return min(shape.seqlen, ceil(seen / block_columns) * block_columns)


def flash_2_blocks(sram_bytes: int, head_dim: int, element_bytes: int) -> tuple[int, int]:
    """(rows, columns): 128 × 64, halved until q, k and v as stored and o in fp32 fit."""
    rows, columns = 128, 64
    while rows > 1 and head_dim * ((rows + 2 * columns) * element_bytes + 4 * rows) > sram_bytes:
        if columns > rows // 2 and columns > 1:
            columns //= 2
        else:
            rows //= 2
    return rows, columns


def elementwise(shape: AttentionShape) -> list[Cost]:
    """Operations that compute little with each element: on scores (mask, softmax, dropout) and on a layer's activations.

    Each as a kernel of its own that reads its input and writes its output once. An exponential, a division or a root is counted as one
    operation.
    """
    b, activations = shape.element_bytes, shape.heads * shape.seqlen * shape.head_dim

    def cost(name: str, elements: int, flops: int, num_bytes: float) -> Cost:
        return Cost(
            name=name,
            flops=flops * elements,
            hbm_bytes=round(num_bytes * elements),
            extra_bytes=0,
            is_matmul=False,
        )

    return [
        cost("mask of scores", shape.scores, 1, 2 * b),
        cost("softmax of scores", shape.scores, 5, 2 * b),
        cost("dropout of scores", shape.scores, 2, 2 * b + 1),
        cost("RMSNorm", activations, 4, 2 * b),
        cost("LayerNorm", activations, 8, 2 * b),
        cost("SiLU · up", activations, 6, 3 * b),
        cost("GELU", activations, 12, 2 * b),
    ]
