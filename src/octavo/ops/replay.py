"""Recorded passes, made ready for the device that replays them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from octavo.ops.dispatch import NATIVE
from octavo.ops.recording import RecordedTensor, Recording

if TYPE_CHECKING:
    from octavo.ops.cpu.program import Program


def can_replay(device: torch.device) -> bool:
    """Whether passes on this device are replayed: on a CPU with the native kernels."""
    return device.type == "cpu" and NATIVE is not None


def make_program(
    recording: Recording,
    outputs: Sequence[RecordedTensor],
    *,
    max_tokens: int,
    max_sampled: int,
    is_fused: bool = True,
) -> "Program":
    """The recorded pass as one native call; `is_fused=False` keeps a launch an op, to compare with."""
    from octavo.ops.cpu.program import Program

    return Program(recording, outputs, max_tokens=max_tokens, max_sampled=max_sampled, is_fused=is_fused)
