"""Dequantisation of ggml's block formats, in torch: bitwise what `gguf.quants.dequantize` gives.

Legend: N rows, B blocks a row. Every function maps blocks (N, B, block_bytes) uint8 to
(N, B, block_size) fp32. All products below are exact in fp32 (at most 11 + 6 + 5 bits of
significand), so only the final addition of a minimum rounds.

Source: ggml-quants.c of llama.cpp (dequantize_row_*).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from octavo.ops.weights import WeightFormat


def dequantize_rows(data: Tensor, weight_format: WeightFormat) -> Tensor:
    """Rows as stored, (N, K) floats or (N, row_bytes) uint8, to (N, K) fp32. Result is new or `data` itself."""
    if not weight_format.is_block_format:
        return data.to(torch.float32)
    num_rows, num_blocks = data.shape[0], data.shape[1] // weight_format.block_bytes
    blocks = data.reshape(num_rows, num_blocks, weight_format.block_bytes)
    return _DEQUANTIZE[weight_format](blocks).reshape(num_rows, num_blocks * weight_format.block_size)


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


def _q4_0(blocks: Tensor) -> Tensor:
    codes = _nibbles(blocks[..., 2:], 16).float() - 8
    return _half(blocks[..., :2]) * codes


def _q4_1(blocks: Tensor) -> Tensor:
    codes = _nibbles(blocks[..., 4:], 16).float()
    return _half(blocks[..., :2]) * codes + _half(blocks[..., 2:4])


def _q5_0(blocks: Tensor) -> Tensor:
    codes = (_nibbles(blocks[..., 6:], 16) | _fifth_bit(blocks[..., 2:6])).float() - 16
    return _half(blocks[..., :2]) * codes


def _q5_1(blocks: Tensor) -> Tensor:
    codes = (_nibbles(blocks[..., 8:], 16) | _fifth_bit(blocks[..., 4:8])).float()
    return _half(blocks[..., :2]) * codes + _half(blocks[..., 2:4])


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks[..., :2]) * blocks[..., 2:].view(torch.int8).float()


def _scales_and_mins(packed_NB12: Tensor) -> tuple[Tensor, Tensor]:
    """Eight 6-bit scales and eight 6-bit minimums out of 12 bytes: (N, B, 12) → 2 × (N, B, 8) fp32.

    Bytes 0–3: scales 0–3, 4–7: mins 0–3, their two top bits lent to scales and mins 4–7, whose
    low four bits are the low and high nibbles of bytes 8–11.
    """
    scale, minimum, low = torch.split(packed_NB12, 4, dim=-1)
    scales = torch.cat((scale & 63, (low & 15) | ((scale >> 2) & 48)), dim=-1)
    minimums = torch.cat((minimum & 63, (low >> 4) | ((minimum >> 2) & 48)), dim=-1)
    return scales.float(), minimums.float()


def _k_affine(blocks: Tensor, codes: Tensor) -> Tensor:
    """d·scale·q − dmin·min for the eight groups of 32 of a Q4_K or Q5_K block."""
    scales, minimums = _scales_and_mins(blocks[..., 4:16])
    step = (_half(blocks[..., :2]) * scales)[..., None]
    offset = (_half(blocks[..., 2:4]) * minimums)[..., None]
    return (step * codes.reshape(*codes.shape[:-1], 8, 32).float() - offset).flatten(-2)


def _q4_k(blocks: Tensor) -> Tensor:
    return _k_affine(blocks, _nibbles(blocks[..., 16:], 32))


def _q5_k(blocks: Tensor) -> Tensor:
    high = _bits(blocks[..., 16:48], range(8), 1, 32)
    return _k_affine(blocks, _nibbles(blocks[..., 48:], 32) | (high << 4))


def _q6_k(blocks: Tensor) -> Tensor:
    low = _nibbles(blocks[..., :128], 64)
    high = _bits(blocks[..., 128:192], range(0, 8, 2), 3, 32)
    codes = (low | (high << 4)).float() - 32
    scales = _half(blocks[..., 208:]) * blocks[..., 192:208].contiguous().view(torch.int8).float()
    return (scales[..., None] * codes.reshape(*codes.shape[:-1], 16, 16)).flatten(-2)


_DEQUANTIZE: dict[WeightFormat, Callable[[Tensor], Tensor]] = {
    WeightFormat.Q4_0: _q4_0,
    WeightFormat.Q4_1: _q4_1,
    WeightFormat.Q5_0: _q5_0,
    WeightFormat.Q5_1: _q5_1,
    WeightFormat.Q8_0: _q8_0,
    WeightFormat.Q4_K: _q4_k,
    WeightFormat.Q5_K: _q5_k,
    WeightFormat.Q6_K: _q6_k,
}
