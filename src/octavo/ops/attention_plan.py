"""Which tokens attend to which blocks in one step."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.ops.checks import check_tensor, shown
from octavo.ops.errors import OpArgumentError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionPlan:
    """The rows of a step, grouped by request (R requests), and where each request's keys lie.

    query_starts   int32 (R + 1,): request r owns rows query_starts[r] … query_starts[r + 1] − 1
    seq_lens       int32 (R,): keys of the request, this step's included; its last row is at position seq_lens − 1
    block_tables   int32 (R, max_blocks): token p of request r is at slot block_tables[r, p // block_size]·block_size
                   + p % block_size; entries behind the window are 0, the null block, and are not read
    key_starts     int32 (R,): request r's key j is token key_starts[r] + j of its table; None: 0 of each
    max_query_rows No request has more rows, and
    max_keys       no request has more keys: for kernels that cannot look; None: unknown

    Rows may be more than keys: those at positions below 0 see none, but what a window reaches.

    Checked once, here, and then used by every layer; its tensors must not be changed afterwards. On
    a GPU the values are not looked at, which would wait for the device. Raises `OpArgumentError`.
    """

    query_starts: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    block_size: int
    key_starts: Tensor | None = None
    max_query_rows: int | None = None
    max_keys: int | None = None
    num_rows: int | None = field(init=False, default=None)
    """Rows of all requests; None on a GPU."""
    highest_block: int = field(init=False, default=-1)
    """The largest block id in the tables; -1 for none, and on a GPU."""

    def __post_init__(self) -> None:
        for name in ("query_starts", "seq_lens", "block_tables", "key_starts"):
            tensor = getattr(self, name)
            object.__setattr__(self, name, None if tensor is None else tensor.contiguous())
        device = self.seq_lens.device
        check_tensor("plan.seq_lens", self.seq_lens, (None,), (torch.int32,), device)
        check_tensor("plan.query_starts", self.query_starts, (self.num_requests + 1,), (torch.int32,), device)
        check_tensor("plan.block_tables", self.block_tables, (self.num_requests, None), (torch.int32,), device)
        if self.key_starts is not None:
            check_tensor("plan.key_starts", self.key_starts, (self.num_requests,), (torch.int32,), device)
        if self.block_size < 1:
            raise OpArgumentError(f"plan.block_size: got {self.block_size}; allowed 1 or more", param="plan")
        if device.type == "cpu":
            self._check_rows()
            self._check_blocks()
            self._check_bounds()

    @property
    def num_requests(self) -> int:
        return self.seq_lens.shape[0]

    @property
    def longest_rows(self) -> int:
        """Rows of the request that has the most; 0 on a GPU."""
        if self.num_rows is None or not self.num_requests:
            return 0
        return int((self.query_starts[1:] - self.query_starts[:-1]).max())

    @property
    def longest_keys(self) -> int:
        """Keys of the request that has the most; 0 on a GPU."""
        return 0 if self.num_rows is None or not self.num_requests else int(self.seq_lens.max())

    def are_slots_shared(self, window_left: int | None) -> bool:
        """Does a slot hold two of the keys that rows see through that window, of two requests or of one? On a CPU.
        O(blocks · log blocks)."""
        rows, ends = np.diff(self.query_starts.numpy().astype("int64")), self._key_ends()
        lens = self.seq_lens.numpy().astype("int64")
        starts = ends - lens
        if window_left is not None:
            starts = starts + np.maximum(lens - rows - window_left, 0)
        column = np.arange(self.block_tables.shape[1]) * self.block_size
        first = np.maximum(column, starts[:, None])
        stop = np.minimum(column + self.block_size, np.where(rows > 0, ends, 0)[:, None])
        is_used = first < stop
        moved = (self.block_tables.numpy().astype("int64") * self.block_size - column)[is_used]
        slots, slot_ends = first[is_used] + moved, stop[is_used] + moved
        order = slots.argsort()
        return bool((slots[order][1:] < slot_ends[order][:-1]).any())

    def _check_rows(self) -> None:
        starts, seq_lens = self.query_starts.numpy().astype("int64"), self.seq_lens.numpy()  # differences do not wrap
        if starts[0] != 0 or (starts[1:] < starts[:-1]).any() or (seq_lens < 0).any():
            raise OpArgumentError(
                f"plan: query_starts {shown(starts.tolist())} and seq_lens {shown(seq_lens.tolist())}; allowed "
                "rising starts from 0, and lengths from 0 on",
                param="plan",
            )
        ends = self._key_ends()
        longest = int(ends.max()) if self.num_requests else 0
        if longest > self.block_tables.shape[1] * self.block_size:
            raise OpArgumentError(
                f"plan.block_tables: {self.block_tables.shape[1]} blocks of {self.block_size} hold fewer than "
                f"seq_lens' {longest} keys; widen the tables",
                param="plan",
            )
        object.__setattr__(self, "num_rows", int(starts[-1]))

    def _check_bounds(self) -> None:
        for name, longest in (("max_query_rows", "longest_rows"), ("max_keys", "longest_keys")):
            bound = getattr(self, name)
            if bound is not None and bound < getattr(self, longest):
                raise OpArgumentError(
                    f"plan.{name}: got {bound}; allowed {getattr(self, longest)} or more, or None", param="plan"
                )

    def _key_ends(self) -> NDArray[Any]:
        """The token of its table behind each request's last key."""
        lens = self.seq_lens.numpy().astype("int64")
        if self.key_starts is None:
            return lens
        starts = self.key_starts.numpy().astype("int64")
        if len(starts) and int(starts.min()) < 0:
            raise OpArgumentError(f"plan.key_starts: got {int(starts.min())}; allowed 0 or more", param="plan")
        return starts + lens

    def _check_blocks(self) -> None:
        if self.block_tables.numel() == 0:
            return
        tables = self.block_tables.numpy()
        lowest = int(tables.min())
        if lowest < 0:
            raise OpArgumentError(f"plan.block_tables is out of range: got {lowest}; allowed 0 or more", param="plan")
        object.__setattr__(self, "highest_block", int(tables.max()))
