"""What one forward pass needs to know of its step, passed explicitly."""

from dataclasses import dataclass

from torch import Tensor

from octavo.ops import AttentionPlan


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One cache group's part of a step: which blocks are read, and into which slots the new tokens go."""

    plan: AttentionPlan
    slots_T: Tensor
    """int64; slot = block id · block_size + offset."""


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """T tokens of any number of requests, flattened."""

    positions_T: Tensor
    """int64 position of each token in its sequence."""
    groups: tuple[GroupStep, ...]
    """One a cache group."""
