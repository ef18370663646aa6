"""The worker's copy of the requests, and a step's tensors made from it.

Rows are copies that the scheduler's messages rebuild; nothing here decides anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.cache import CacheLayout
from octavo.core.messages import BlockTableUpdate, NewRequest, ScheduledRequest
from octavo.core.sampling_params import SamplingParams
from octavo.layers.context import ForwardContext, GroupStep
from octavo.ops import AttentionPlan
from octavo.sampling import GrammarState

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Integer = TypeVar("Integer", np.int32, np.int64)


class SharedArrays:
    """Token ids as arrays: one for all samples of a request, which have the tuple in common and begin one after another."""

    def __init__(self) -> None:
        self._arrays: WeakValueDictionary[int, Int64s] = WeakValueDictionary()

    def array(self, token_ids: tuple[int, ...]) -> Int64s:
        """Whoever keeps it keeps `token_ids`, by whose identity it is known; it goes with the last who does."""
        found = self._arrays.get(id(token_ids))
        if found is None:
            found = self._arrays[id(token_ids)] = np.array(token_ids, np.int64)
        return found


class RequestRow:
    """One request: its tokens, its block tables, how it is sampled."""

    def __init__(
        self, request: NewRequest, num_groups: int, grammar: GrammarState | None, arrays: SharedArrays
    ) -> None:
        self.grammar = grammar
        self.params: SamplingParams = request.params
        self.seed = request.seed
        self.stop_token_ids: Int64s = np.array(request.stop_token_ids, np.int64)
        allowed = request.params.allowed_token_ids
        self.allowed_token_ids = None if allowed is None else arrays.array(allowed)
        self.num_prompt_tokens = request.num_prompt_tokens
        self.num_tokens = 0
        self._token_ids: Int64s = np.empty(max(64, 2 * len(request.token_ids)), np.int64)
        self._tables: list[Int32s] = [np.zeros(16, np.int32) for _ in range(num_groups)]
        self._table_lengths = [0] * num_groups
        self._write_tokens(0, request.token_ids)

    @property
    def prompt_token_ids(self) -> Int64s:
        return self._token_ids[: self.num_prompt_tokens]

    @property
    def output_token_ids(self) -> Int64s:
        return self._token_ids[self.num_prompt_tokens : self.num_tokens]

    def table(self, group: int) -> Int32s:
        return self._tables[group][: self._table_lengths[group]]

    def advance(self, scheduled: ScheduledRequest) -> None:
        """Take in a step's tokens and blocks."""
        self._write_tokens(scheduled.start, scheduled.token_ids)
        for group, update in enumerate(scheduled.block_updates):
            self._update_table(group, update)

    def _write_tokens(self, start: int, token_ids: Sequence[int]) -> None:
        end = start + len(token_ids)
        self._token_ids = _grown(self._token_ids, end)
        self._token_ids[start:end] = token_ids
        self.num_tokens = max(self.num_tokens, end)

    def _update_table(self, group: int, update: BlockTableUpdate) -> None:
        end = update.start + len(update.block_ids)
        self._tables[group] = _grown(self._tables[group], end)
        self._tables[group][update.start : end] = update.block_ids
        self._table_lengths[group] = end


def _grown(values: NDArray[Integer], size: int) -> NDArray[Integer]:
    """The array, at least `size` long; doubled when it must grow, so appending is O(1) amortised."""
    if size <= len(values):
        return values
    grown = np.zeros(max(size, 2 * len(values)), values.dtype)
    grown[: len(values)] = values
    return grown


@dataclass(frozen=True, slots=True)
class StepTensors:
    """What the model reads in one step, and which token rows each scheduled request owns."""

    ids_T: Tensor
    context: ForwardContext
    starts: Int64s
    """(R + 1,): request r owns token rows starts[r] … starts[r + 1] - 1."""


def pack_step(
    rows: Sequence[RequestRow], scheduled: Sequence[ScheduledRequest], layout: CacheLayout, device: torch.device
) -> StepTensors:
    """Flatten R requests' tokens of this step. O(tokens + blocks read)."""
    counts = np.fromiter((len(request.token_ids) for request in scheduled), np.int64, len(scheduled))
    first = np.fromiter((request.start for request in scheduled), np.int64, len(scheduled))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    ids_T = np.concatenate([np.asarray(request.token_ids, np.int64) for request in scheduled])
    owner_T = np.repeat(np.arange(len(scheduled)), counts)
    positions_T = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, counts)
    block_size = layout.block_size
    block_T, offset_T = np.divmod(positions_T, block_size)
    query_starts = torch.from_numpy(starts.astype(np.int32)).to(device)
    seq_lens = torch.from_numpy((first + counts).astype(np.int32)).to(device)
    groups = []
    for group in range(len(layout.groups)):
        tables = [row.table(group) for row in rows]
        padded = np.zeros((len(rows), max(len(table) for table in tables)), np.int32)
        for index, table in enumerate(tables):
            padded[index, : len(table)] = table
        slots_T = padded[owner_T, block_T].astype(np.int64) * block_size + offset_T
        plan = AttentionPlan(
            query_starts=query_starts,
            seq_lens=seq_lens,
            block_tables=torch.from_numpy(padded).to(device),
            block_size=block_size,
        )
        groups.append(GroupStep(plan, torch.from_numpy(slots_T).to(device)))
    context = ForwardContext(torch.from_numpy(positions_T).to(device), tuple(groups))
    return StepTensors(torch.from_numpy(ids_T).to(device), context, starts)
