"""ggml's block formats, in torch: their codes, steps and minimums, and dequantisation, bitwise `gguf.quants.dequantize`.

Legend: N rows, B blocks a row. Blocks are (N, B, block_bytes) uint8. Steps and minimums are exact in
fp32 (at most 11 + 6 bits of significand), as is step·code (5 bits more), so only the addition of a
minimum rounds.

Source: ggml-quants.c of llama.cpp (dequantize_row_*).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.ops.weights import WeightFormat


@dataclass(frozen=True, slots=True, eq=False)
class CodedRows:
    """w = step·code + minimum. U units of K (32 elements, Q6_K: 16) share a step, G groups of 32 a minimum."""

    codes_NK: Tensor
    """int8."""
    steps_NU: Tensor
    """fp32."""
    minimums_NG: Tensor | None
    """fp32; None for formats that are centred on zero."""


def dequantize_rows(data: Tensor, weight_format: WeightFormat) -> Tensor:
    """Rows as stored, (N, K) floats or (N, row_bytes) uint8, to (N, K) fp32. Result is new or `data` itself."""
    if weight_format is WeightFormat.I8:
        codes_NK, scales_N1 = split_i8(data)
        return scales_N1 * codes_NK.float()
    if not weight_format.is_block_format:
        return data.to(torch.float32)
    rows = split_rows(data, weight_format)
    w_NK = _spread(rows.steps_NU, rows.codes_NK) * rows.codes_NK.float()
    return w_NK if rows.minimums_NG is None else w_NK + _spread(rows.minimums_NG, rows.codes_NK)


def split_i8(data: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, 4 + K) uint8 of an I8 weight: codes (N, K) int8 and scales (N, 1) fp32."""
    return data[:, 4:].view(torch.int8), data[:, :4].clone(memory_format=torch.contiguous_format).view(torch.float32)


def split_rows(data: Tensor, weight_format: WeightFormat) -> CodedRows:
    """Rows (N, row_bytes) uint8 of a block format, taken apart."""
    num_rows, num_blocks = data.shape[0], data.shape[1] // weight_format.block_bytes
    parts = _SPLIT[weight_format](data.reshape(num_rows, num_blocks, weight_format.block_bytes))
    minimums = None if parts.minimums_NG is None else parts.minimums_NG.flatten(1)
    return CodedRows(parts.codes_NK.flatten(1), parts.steps_NU.flatten(1), minimums)


def _spread(values_NU: Tensor, codes_NK: Tensor) -> Tensor:
    """Each value for all elements of its unit."""
    num_units = max(1, values_NU.shape[1])
    return values_NU.repeat_interleave(codes_NK.shape[1] // num_units, dim=1)


def _half(bytes_NB2: Tensor) -> Tensor:
    """Little-endian fp16 in the last two bytes' dimension: (N, B, 2) uint8 → (N, B, 1) fp32."""
    return bytes_NB2.contiguous().view(torch.float16).to(torch.float32)


def _nibbles(codes: Tensor, run: int) -> Tensor:
    """Each run of `run` bytes gives its low nibbles, then its high nibbles: (…, n) → (…, 2n)."""
    runs = codes.reshape(*codes.shape[:-1], codes.shape[-1] // run, 1, run)
    return torch.cat((runs & 15, runs >> 4), dim=-2).flatten(-3)


def _bits(codes: Tensor, shifts: range, mask: int, run: int) -> Tensor:
    """Each run of `run` bytes gives (run >> s) & mask for every shift s in turn."""
    runs = codes.reshape(*codes.shape[:-1], codes.shape[-1] // run, 1, run)
    return torch.cat([(runs >> shift) & mask for shift in shifts], dim=-2).flatten(-3)


def _fifth_bit(bytes_NB4: Tensor) -> Tensor:
    """Bit i of a little-endian 32-bit word, moved to bit 4 of element i: (N, B, 4) → (N, B, 32)."""
    bits = torch.stack([(bytes_NB4 >> shift) & 1 for shift in range(8)], dim=-1)
    return bits.flatten(-2) << 4


def _signed(codes: Tensor, zero: int) -> Tensor:
    """Unsigned codes less the format's zero, as int8."""
    return codes.to(torch.int8) - zero


def _q4_0(blocks: Tensor) -> CodedRows:
    return CodedRows(_signed(_nibbles(blocks[..., 2:], 16), 8), _half(blocks[..., :2]), None)


def _q4_1(blocks: Tensor) -> CodedRows:
    return CodedRows(_signed(_nibbles(blocks[..., 4:], 16), 0), _half(blocks[..., :2]), _half(blocks[..., 2:4]))


def _q5_0(blocks: Tensor) -> CodedRows:
    codes = _nibbles(blocks[..., 6:], 16) | _fifth_bit(blocks[..., 2:6])
    return CodedRows(_signed(codes, 16), _half(blocks[..., :2]), None)


def _q5_1(blocks: Tensor) -> CodedRows:
    codes = _nibbles(blocks[..., 8:], 16) | _fifth_bit(blocks[..., 4:8])
    return CodedRows(_signed(codes, 0), _half(blocks[..., :2]), _half(blocks[..., 2:4]))


def _q8_0(blocks: Tensor) -> CodedRows:
    return CodedRows(blocks[..., 2:].view(torch.int8), _half(blocks[..., :2]), None)


def _scales_and_mins(packed_NB12: Tensor) -> tuple[Tensor, Tensor]:
    """Eight 6-bit scales and eight 6-bit minimums out of 12 bytes: (N, B, 12) → 2 × (N, B, 8) fp32.

    Bytes 0–3: scales 0–3, 4–7: mins 0–3, their two top bits lent to scales and mins 4–7, whose
    low four bits are the low and high nibbles of bytes 8–11.
    """
    scale, minimum, low = torch.split(packed_NB12, 4, dim=-1)
    scales = torch.cat((scale & 63, (low & 15) | ((scale >> 2) & 48)), dim=-1)
    minimums = torch.cat((minimum & 63, (low >> 4) | ((minimum >> 2) & 48)), dim=-1)
    return scales.float(), minimums.float()


def _k_affine(blocks: Tensor, codes: Tensor) -> CodedRows:
    """Steps d·scale and minimums −dmin·min of the eight groups of 32 of a Q4_K or Q5_K block."""
    scales, minimums = _scales_and_mins(blocks[..., 4:16])
    return CodedRows(_signed(codes, 0), _half(blocks[..., :2]) * scales, -(_half(blocks[..., 2:4]) * minimums))


def _q4_k(blocks: Tensor) -> CodedRows:
    return _k_affine(blocks, _nibbles(blocks[..., 16:], 32))


def _q5_k(blocks: Tensor) -> CodedRows:
    high = _bits(blocks[..., 16:48], range(8), 1, 32)
    return _k_affine(blocks, _nibbles(blocks[..., 48:], 32) | (high << 4))


def _q6_k(blocks: Tensor) -> CodedRows:
    low = _nibbles(blocks[..., :128], 64)
    high = _bits(blocks[..., 128:192], range(0, 8, 2), 3, 32)
    steps = _half(blocks[..., 208:]) * blocks[..., 192:208].contiguous().view(torch.int8).float()
    return CodedRows(_signed(low | (high << 4), 32), steps, None)


_SPLIT: dict[WeightFormat, Callable[[Tensor], CodedRows]] = {
    WeightFormat.Q4_0: _q4_0,
    WeightFormat.Q4_1: _q4_1,
    WeightFormat.Q5_0: _q5_0,
    WeightFormat.Q5_1: _q5_1,
    WeightFormat.Q8_0: _q8_0,
    WeightFormat.Q4_K: _q4_k,
    WeightFormat.Q5_K: _q5_k,
    WeightFormat.Q6_K: _q6_k,
}
