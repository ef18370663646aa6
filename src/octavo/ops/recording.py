"""Tensors that stand for the rows of any step, so that a forward pass can be recorded once and replayed.

A recording runs the model's own code on `RecordedTensor`s: real memory for a few rows, whose values mean nothing. The
kernels of `octavo.ops.cpu` append themselves to the recording instead of running; views (split, unflatten, …) are
taken as usual; any other use of such a tensor is an error, since it would be missing from the program.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from octavo.ops.attention_plan import AttentionPlan

RECORDED_ENTRIES = 16
"""Tokens, and sampled tokens, that a pass is recorded with."""


class RowSet(Enum):
    """What the rows of a buffer are counted in."""

    TOKENS = "tokens"
    SAMPLED = "sampled"


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory whose size grows with the entries of its row set."""

    row_set: RowSet
    bytes_per_entry: int
    address: int
    """Where it lies while recording."""
    is_input: bool = False
    bound: "int | RowSet | None" = None
    """Of an input: its values must be in 0 … bound − 1; a row set stands for its entries in the step."""


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """One kernel call: its name and its arguments, tensors as tensors."""

    kernel: str
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    """Which arguments it writes."""

    def tensors(self) -> dict[str, "RecordedTensor"]:
        return {name: value for name, value in self.arguments.items() if isinstance(value, RecordedTensor)}


@dataclass(eq=False, slots=True)
class Recording:
    """The launches of a pass, in order, and what it reads of each step."""

    launches: list[Launch] = field(default_factory=list)
    inputs: list["RecordedTensor"] = field(default_factory=list)
    plans: list["AttentionPlan"] = field(default_factory=list)

    def add_input(self, row_set: RowSet) -> "RecordedTensor":
        """A vector of int64, one a row, that the caller fills before each replay."""
        tensor = self.new(torch.zeros(RECORDED_ENTRIES, dtype=torch.int64), row_set)
        tensor.buffer.is_input = True
        self.inputs.append(tensor)
        return tensor

    def add_plan(self, block_size: int) -> "AttentionPlan":
        """A plan that each replay puts its own in the place of."""
        from octavo.ops.attention_plan import AttentionPlan

        plan = AttentionPlan(
            query_starts=torch.tensor([0, RECORDED_ENTRIES], dtype=torch.int32),
            seq_lens=torch.tensor([RECORDED_ENTRIES], dtype=torch.int32),
            block_tables=torch.zeros((1, -(-RECORDED_ENTRIES // block_size)), dtype=torch.int32),
            block_size=block_size,
        )
        self.plans.append(plan)
        return plan

    def new(self, memory: Tensor, row_set: RowSet) -> "RecordedTensor":
        """`memory`, of RECORDED_ENTRIES times some bytes, as a tensor of this recording."""
        num_bytes = memory.numel() * memory.element_size()
        assert num_bytes % RECORDED_ENTRIES == 0, f"{memory.shape} has no whole number of bytes an entry"
        tensor = memory.as_subclass(RecordedTensor)
        tensor.recording = self
        tensor.buffer = Buffer(row_set, num_bytes // RECORDED_ENTRIES, memory.data_ptr())
        return tensor


class NotRecordableError(RuntimeError):
    """A recorded pass did something to a tensor that is not an op of `octavo.ops`."""


_VIEWS = frozenset({"split", "unflatten", "flatten", "view", "__getitem__", "narrow", "float", "contiguous", "reshape"})
_FACTS = frozenset(
    {
        "dim",
        "stride",
        "numel",
        "element_size",
        "is_contiguous",
        "data_ptr",
        "storage_offset",
        "size",
        "__len__",
        "__get__",
    }
)


class RecordedTensor(Tensor):
    """A tensor of a recording, or a view of one."""

    recording: Recording
    buffer: Buffer

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        with torch._C.DisableTorchFunctionSubclass():
            if name in _FACTS:
                return func(*args, **kwargs)
            source = args[0]
            if name == "new_empty":
                return source.recording.new(func(*args, **kwargs), source.buffer.row_set)
            if name in _VIEWS:
                result = func(*args, **kwargs)
                views = result if isinstance(result, tuple | list) else (result,)
                if all(view.untyped_storage().data_ptr() == source.untyped_storage().data_ptr() for view in views):
                    return (
                        type(views)(source._view(view) for view in views) if views is result else source._view(result)
                    )
        raise NotRecordableError(f"{name} cannot be recorded: it is no op of octavo.ops, and no view")

    def _view(self, view: Tensor) -> "RecordedTensor":
        recorded = view.as_subclass(RecordedTensor)
        recorded.recording, recorded.buffer = self.recording, self.buffer
        return recorded

    def __repr__(self) -> str:  # type: ignore[override]
        return f"RecordedTensor({tuple(self.shape)}, {self.dtype}, {self.buffer.row_set.value})"

    def require_below(self, bound: int | RowSet) -> None:
        """Every replay checks that this input's values are in 0 … bound − 1. Several bounds of one input: the least."""
        buffer = self.buffer
        if isinstance(bound, int) and isinstance(buffer.bound, int):
            bound = min(bound, buffer.bound)
        assert buffer.bound is None or isinstance(bound, int) == isinstance(buffer.bound, int), "bounds of two kinds"
        buffer.bound = bound
