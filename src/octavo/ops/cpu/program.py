"""A recorded pass made ready to run: launches fused, buffers laid out in one arena, replayed natively."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from octavo import _native
from octavo.ops.attention_plan import AttentionPlan
from octavo.ops.cpu.fusion import fuse
from octavo.ops.cpu.launch import KERNELS, native, native_plan
from octavo.ops.errors import OpArgumentError
from octavo.ops.recording import RECORDED_ENTRIES, Buffer, Launch, RecordedTensor, Recording, RowSet

_ALIGNMENT = 64
_ROW_SET = {RowSet.TOKENS: _native.RowSet.TOKENS, RowSet.SAMPLED: _native.RowSet.SAMPLED}


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """One launch of a program, for people."""

    kernel: str
    shape: str
    weight_bytes: int
    """Of the weights it reads."""


class Program:
    """A forward pass as one native call, for up to `max_tokens` tokens of which `max_sampled` are sampled.

    It computes what the recorded ops would, bit for bit. Each replay reads the inputs, writes the outputs, and keeps
    nothing else; an output is valid until the next replay. Buffers that are not in use at the same time share memory.
    """

    def __init__(
        self,
        recording: Recording,
        outputs: Sequence[RecordedTensor],
        *,
        max_tokens: int,
        max_sampled: int,
        is_fused: bool = True,
    ) -> None:
        self._capacity = {RowSet.TOKENS: max_tokens, RowSet.SAMPLED: max_sampled}
        self._launches = fuse(recording.launches, outputs) if is_fused else list(recording.launches)
        self._plans = recording.plans
        self._inputs = [
            (tensor, torch.zeros(self._capacity[tensor.buffer.row_set], dtype=torch.int64))
            for tensor in recording.inputs
        ]
        offsets, self.arena_bytes = _lay_out(self._launches, outputs, self._capacity)
        self._arena = torch.empty(self.arena_bytes + _ALIGNMENT, dtype=torch.uint8)
        aligned = -(-self._arena.data_ptr() // _ALIGNMENT) * _ALIGNMENT
        self._addresses = {buffer: aligned + offset for buffer, offset in offsets.items()}
        self._addresses |= {tensor.buffer: memory.data_ptr() for tensor, memory in self._inputs}
        self._outputs = [self._output(tensor) for tensor in outputs]
        self._native = _native.Program()
        for launch in self._launches:
            self._append(launch)

    @property
    def inputs(self) -> list[Tensor]:
        """What the recording's inputs stand for: int64 of full capacity, to be filled from the start."""
        return [memory for _, memory in self._inputs]

    def replay(self, num_tokens: int, num_sampled: int, plans: Sequence[AttentionPlan]) -> list[Tensor]:
        """Run the pass over the first rows of the inputs; the outputs' first rows.

        Raises `OpArgumentError`, with nothing written, for more rows than the program was made for, plans that do not
        fit its own, or an input out of the range that some op asks for.
        """
        counts = {RowSet.TOKENS: num_tokens, RowSet.SAMPLED: num_sampled}
        self._check(counts, plans)
        self._native.replay(num_tokens, num_sampled, [native_plan(plan) for plan in plans])
        return [memory[: counts[row_set]] for memory, row_set in self._outputs]

    def time(
        self, num_tokens: int, num_sampled: int, plans: Sequence[AttentionPlan]
    ) -> list[tuple[LaunchFacts, float]]:
        """A replay, and the seconds that each launch took. Raises as `replay` does."""
        self._check({RowSet.TOKENS: num_tokens, RowSet.SAMPLED: num_sampled}, plans)
        seconds = self._native.time(num_tokens, num_sampled, [native_plan(plan) for plan in plans])
        return list(zip(map(_facts, self._launches), seconds, strict=True))

    @property
    def num_buffers(self) -> int:
        return len(self._addresses)

    def _check(self, counts: Mapping[RowSet, int], plans: Sequence[AttentionPlan]) -> None:
        for row_set, count in counts.items():
            if not 0 <= count <= self._capacity[row_set]:
                raise OpArgumentError(
                    f"{row_set.value}: got {count}; allowed 0 to {self._capacity[row_set]}, which the program was made for",
                    param=row_set.value,
                )
        for tensor, memory in self._inputs:
            bound, values = tensor.buffer.bound, memory[: counts[tensor.buffer.row_set]].numpy()
            if isinstance(bound, RowSet):
                bound = counts[bound]
            if bound is not None and len(values) and not (int(values.min()) >= 0 and int(values.max()) < bound):
                raise OpArgumentError(
                    f"an input of the pass is out of range: got {int(values.min())} … {int(values.max())}; "
                    f"allowed 0 to {bound - 1}",
                    param="inputs",
                )
        if len(plans) != len(self._plans):
            raise OpArgumentError(f"plans: got {len(plans)}; allowed {len(self._plans)}", param="plans")
        for plan, recorded in zip(plans, self._plans, strict=True):
            if plan.num_rows != counts[RowSet.TOKENS] or plan.block_size != recorded.block_size:
                raise OpArgumentError(
                    f"a plan of {plan.num_rows} rows in blocks of {plan.block_size}; allowed "
                    f"{counts[RowSet.TOKENS]} in blocks of {recorded.block_size}",
                    param="plans",
                )

    def _output(self, tensor: RecordedTensor) -> tuple[Tensor, RowSet]:
        """The arena's bytes behind an output, as a tensor of full capacity."""
        capacity = self._capacity[tensor.buffer.row_set]
        start = self._addresses[tensor.buffer] - self._arena.data_ptr()
        num_bytes = tensor.buffer.bytes_per_entry * capacity
        memory = self._arena[start : start + num_bytes].view(tensor.dtype).view(capacity, *tensor.shape[1:])
        return memory, tensor.buffer.row_set

    def _append(self, launch: Launch) -> None:
        kernel, tensors = KERNELS[launch.kernel], launch.tensors()
        written = [tensors[name] for name in launch.outputs if name in tensors]
        row_set = (written or list(tensors.values()))[0].buffer.row_set
        rows_per_entry, rest = divmod(int(launch.arguments.get("rows", RECORDED_ENTRIES)), RECORDED_ENTRIES)
        assert rest == 0, f"{launch.kernel} has {rest} rows that belong to no entry"
        self._native.append(
            kernel.block(**{name: self._resolved(value) for name, value in launch.arguments.items()}),
            set=_ROW_SET[row_set],
            rows_per_entry=rows_per_entry,
            plan=self._plans.index(launch.arguments["plan"]) if "plan" in launch.arguments else -1,
        )

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, RecordedTensor):
            return self._addresses[value.buffer] + value.data_ptr() - value.buffer.address
        return native(value)


def _lay_out(
    launches: Sequence[Launch], outputs: Iterable[RecordedTensor], capacity: Mapping[RowSet, int]
) -> tuple[dict[Buffer, int], int]:
    """Offsets such that buffers alive at the same launch do not overlap, and the bytes they need together.

    First fit by first use: each buffer takes the lowest gap among those alive. O(buffers · buffers alive).
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for index, launch in enumerate(launches):
        for tensor in launch.tensors().values():
            if not tensor.buffer.is_input:
                first.setdefault(tensor.buffer, index)
                last[tensor.buffer] = index
    for output in outputs:
        last[output.buffer] = len(launches)
    offsets: dict[Buffer, int] = {}
    alive: list[tuple[int, int, Buffer]] = []  # (start, end), by start
    total = 0
    for buffer, index in first.items():
        alive = [entry for entry in alive if last[entry[2]] >= index]
        size = -(-buffer.bytes_per_entry * capacity[buffer.row_set] // _ALIGNMENT) * _ALIGNMENT
        start = 0
        for taken_start, taken_end, _ in alive:
            if start + size <= taken_start:
                break
            start = max(start, taken_end)
        offsets[buffer] = start
        alive = sorted([*alive, (start, start + size, buffer)], key=lambda entry: entry[0])
        total = max(total, start + size)
    return offsets, total


def _facts(launch: Launch) -> LaunchFacts:
    arguments = launch.arguments
    is_matrix = "weight" in arguments and "in_features" in arguments
    weight = arguments.get("weight")
    weight_bytes = 0
    if is_matrix and isinstance(weight, Tensor) and launch.kernel != "embedding":  # which reads single rows
        weight_bytes = weight.numel() * weight.element_size()
    if is_matrix:
        weight_format = str(arguments.get("format", "I8")).rpartition(".")[2].removesuffix("_TILES")
        width = arguments["out_features"] if "out_features" in arguments else f"2 × {arguments['features']}"
        shape = f"{weight_format} {arguments['in_features']} → {width}"
    elif "kv_heads" in arguments:
        shape = f"{arguments['heads']}/{arguments['kv_heads']} heads of {arguments['key_size']}"
    else:
        shape = str(next(arguments[name] for name in _WIDTHS if name in arguments))
    return LaunchFacts(launch.kernel, shape, weight_bytes)


_WIDTHS = ("in_features", "features", "channels", "head_size", "rotary_size")
