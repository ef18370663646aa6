"""Rotary position embeddings: the frequencies of each scaling rule, tabulated once.

The table's row p is [cos(p·f_0) … cos(p·f_{R/2-1}) | sin(p·f_0) …] · attention_factor, with
f_i = θ^(-2i/R) before scaling (Su et al. 2021, arXiv:2104.09864).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo import ops
from octavo.core.strenum import StrEnum


class RopeRule(StrEnum):
    """How the frequencies are scaled, as config.json's `rope_type` names it."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """Which rotary embedding: its size R, base θ and scaling rule."""

    dim: int
    theta: float
    rule: RopeRule = RopeRule.DEFAULT
    factor: float = 1.0
    original_max_position: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    is_truncated: bool = True
    """yarn: whether the ramp's ends are rounded outwards to whole frequencies."""
    attention_factor: float | None = None
    """Multiplies the table; None: what the rule says."""
    frequency_divisors: tuple[float, ...] = ()
    """Divide the frequencies one by one, as a GGUF file's `rope_freqs` does."""


def inverse_frequencies(spec: RopeSpec) -> Tensor:
    """f_0 … f_{R/2-1} in fp32, scaling applied."""
    exponents = torch.arange(0, spec.dim, 2, dtype=torch.int64).float() / spec.dim
    frequencies = 1.0 / (spec.theta**exponents)
    if spec.frequency_divisors:
        frequencies = frequencies / torch.tensor(spec.frequency_divisors, dtype=torch.float32)
    if spec.rule is RopeRule.LINEAR:
        return frequencies / spec.factor
    if spec.rule is RopeRule.LLAMA3:
        return _llama3(frequencies, spec)
    if spec.rule is RopeRule.YARN:
        return _yarn(frequencies, spec)
    return frequencies


def _llama3(frequencies: Tensor, spec: RopeSpec) -> Tensor:
    """Long wavelengths slowed by `factor`, short ones kept, a linear blend between (Llama 3.1's rule)."""
    wavelengths = 2 * math.pi / frequencies
    low_wavelength = spec.original_max_position / spec.low_freq_factor
    high_wavelength = spec.original_max_position / spec.high_freq_factor
    blend = (spec.original_max_position / wavelengths - spec.low_freq_factor) / (
        spec.high_freq_factor - spec.low_freq_factor
    )
    blended = (1 - blend) * frequencies / spec.factor + blend * frequencies
    slowed = torch.where(wavelengths > low_wavelength, frequencies / spec.factor, frequencies)
    is_between = (wavelengths <= low_wavelength) & (wavelengths >= high_wavelength)
    return torch.where(is_between, blended, slowed)


def _yarn(frequencies: Tensor, spec: RopeSpec) -> Tensor:
    """Interpolated and original frequencies, blended by a ramp over their index (Peng et al. 2023,
    arXiv:2309.00071, §3.2)."""

    def index_of(rotations: float) -> float:
        span = spec.original_max_position / (rotations * 2 * math.pi)
        return spec.dim * math.log(span) / (2 * math.log(spec.theta))

    low, high = index_of(spec.beta_fast), index_of(spec.beta_slow)
    if spec.is_truncated:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(spec.dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    extrapolated = 1 - ramp
    return frequencies / spec.factor * (1 - extrapolated) + frequencies * extrapolated


def yarn_attention_factor(factor: float, mscale: float = 0.0, mscale_all_dim: float = 0.0) -> float:
    """√(1/t) of YaRN §3.3: 0.1 · ln(factor) + 1, or a ratio of two such where both multipliers are given (not 0)."""

    def scale(multiplier: float) -> float:
        return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1 else 1.0

    return scale(mscale) / scale(mscale_all_dim) if mscale and mscale_all_dim else scale(1.0)


class RotaryEmbedding:
    """Rotates q and k in place by their positions; the table is shared by all layers of one spec."""

    def __init__(self, spec: RopeSpec, max_position: int, device: torch.device) -> None:
        positions = torch.arange(max_position, dtype=torch.float32)
        angles_PR = torch.outer(positions, inverse_frequencies(spec))
        factor = 1.0 if spec.attention_factor is None else spec.attention_factor
        self.cos_sin_PR = (torch.cat([angles_PR.cos(), angles_PR.sin()], dim=-1) * factor).to(device)

    def __call__(self, q_THD: Tensor, k_TKD: Tensor, positions_T: Tensor) -> None:
        ops.apply_rotary(q_THD, k_TKD, self.cos_sin_PR, positions_T)
