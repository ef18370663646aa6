"""What an engine tells of itself. No torch, so that a server's front end need not load it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

OnPhase = Callable[[str, float], None]
"""Told of each phase of the start: its name, and the share of it that is done, 0 … 1."""
OnFound = Callable[[Path], None]
"""Told where the model is, as soon as it is on this machine."""


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the rest of the process, or another one, needs to know of an engine."""

    model: str
    model_path: str
    family: str
    architecture: str
    vocab_size: int
    num_layers: int
    num_parameters: int
    weight_bytes: int
    weight_formats: dict[str, int]
    """Format → bytes of weights stored in it."""
    max_model_len: int
    max_num_seqs: int
    max_num_queued_reqs: int
    max_num_batched_tokens: int
    num_blocks: int
    block_size: int
    has_priorities: bool
    """Whether the scheduling policy reads a request's priority."""
    seed: int | None
    isa: str
    options: dict[str, Any]
    """Every resolved option."""
    reasons: dict[str, str]
    """Why each has its value."""
    start_phases_s: dict[str, float]
    """Phase of the start → seconds it took."""
