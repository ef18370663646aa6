"""A step's tensors in, hidden states and logits out: op by op, or as a recorded program.

Both give the same bits. T: tokens, R: rows whose logits are wanted, C: hidden size, V: vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from octavo import ops
from octavo.cache import CacheLayout
from octavo.layers.context import ForwardContext, GroupStep
from octavo.models.decoder import Decoder
from octavo.worker.input_batch import StepTensors


@dataclass(frozen=True, slots=True)
class PassOutput:
    """Valid until the next pass."""

    hidden_TC: Tensor
    logits_RV: Tensor


class ForwardPass(Protocol):
    """One forward pass over a step's tokens; `rows_R` (int64) are those whose logits are wanted."""

    def __call__(self, step: StepTensors, rows_R: Tensor) -> PassOutput: ...


class PlainPass:
    """The model's layers, op by op."""

    def __init__(self, model: Decoder) -> None:
        self._model = model

    def __call__(self, step: StepTensors, rows_R: Tensor) -> PassOutput:
        hidden_TC = self._model(step.ids_T, step.context)
        return PassOutput(hidden_TC, self._model.logits(hidden_TC, rows_R))


class RecordedPass:
    """The model's layers, recorded once and replayed natively without the interpreter (and its lock)."""

    def __init__(
        self, model: Decoder, layout: CacheLayout, *, max_tokens: int, max_sampled: int, is_fused: bool = True
    ) -> None:
        recording = ops.Recording()
        ids_T, positions_T = recording.add_input(ops.RowSet.TOKENS), recording.add_input(ops.RowSet.TOKENS)
        rows_R = recording.add_input(ops.RowSet.SAMPLED)
        groups = tuple(
            GroupStep(recording.add_plan(layout.block_size), recording.add_input(ops.RowSet.TOKENS))
            for _ in layout.groups
        )
        hidden_TC = model(ids_T, ForwardContext(positions_T, groups))
        logits_RV = model.logits(hidden_TC, rows_R)
        assert isinstance(hidden_TC, ops.RecordedTensor), "a pass over recorded tensors gives recorded tensors"
        assert isinstance(logits_RV, ops.RecordedTensor), "a pass over recorded tensors gives recorded tensors"
        self.program = ops.make_program(
            recording, [hidden_TC, logits_RV], max_tokens=max_tokens, max_sampled=max_sampled, is_fused=is_fused
        )
        self._ids_T, self._positions_T, self._rows_R, *self._slots_T = self.program.inputs

    def __call__(self, step: StepTensors, rows_R: Tensor) -> PassOutput:
        num_tokens, num_sampled = len(step.ids_T), len(rows_R)
        self.fill(step, rows_R)
        plans = [group.plan for group in step.context.groups]
        return PassOutput(*self.program.replay(num_tokens, num_sampled, plans))

    def fill(self, step: StepTensors, rows_R: Tensor) -> None:
        """Copy a step into the program's inputs."""
        num_tokens = len(step.ids_T)
        self._ids_T[:num_tokens] = step.ids_T
        self._positions_T[:num_tokens] = step.context.positions_T
        self._rows_R[: len(rows_R)] = rows_R
        for slots_T, group in zip(self._slots_T, step.context.groups, strict=True):
            slots_T[:num_tokens] = group.slots_T


@torch.inference_mode()
def make_pass(
    model: Decoder, layout: CacheLayout, device: torch.device, *, max_tokens: int, max_sampled: int, is_eager: bool
) -> ForwardPass:
    """A recorded pass where the device can replay one, unless `is_eager` asks for the plain one."""
    if is_eager or not ops.can_replay(device):
        return PlainPass(model)
    return RecordedPass(model, layout, max_tokens=max_tokens, max_sampled=max_sampled)
