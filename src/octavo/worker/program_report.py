"""What a recorded pass is made of, and where a step's time goes: for people."""

from dataclasses import dataclass
from statistics import median

import torch

from octavo.cache import CacheLayout
from octavo.layers.context import ForwardContext, GroupStep
from octavo.ops import AttentionPlan
from octavo.worker.forward_pass import RecordedPass
from octavo.worker.input_batch import StepTensors

WARMUP, REPEATS = 3, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchGroup:
    """Launches of one kernel on one shape."""

    kernel: str
    shape: str
    count: int
    weight_bytes: int
    """Of the weights that all of them read."""
    seconds: float
    """Of all of them together, in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramReport:
    """A program, timed over one step that computes the last `new_tokens` of `context_tokens` tokens of each request."""

    num_requests: int
    context_tokens: int
    new_tokens: int
    num_launches: int
    num_buffers: int
    arena_bytes: int
    groups: tuple[LaunchGroup, ...]
    """By time, the longest first."""

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups)


@torch.inference_mode()
def report_program(
    recorded: RecordedPass,
    layout: CacheLayout,
    num_blocks: int,
    *,
    num_requests: int,
    context_tokens: int,
    new_tokens: int = 1,
) -> ProgramReport:
    """Time the program launch by launch: medians of `REPEATS` steps over whatever the cache holds."""
    step = uniform_step(layout, num_blocks, num_requests, context_tokens, new_tokens)
    num_tokens = num_requests * new_tokens
    recorded.fill(step, torch.arange(new_tokens - 1, num_tokens, new_tokens))
    plans = [group.plan for group in step.context.groups]
    runs = [recorded.program.time(num_tokens, num_requests, plans) for _ in range(WARMUP + REPEATS)][WARMUP:]
    seconds = [median(run[index][1] for run in runs) for index in range(len(runs[0]))]
    by_name: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for (facts, _), each in zip(runs[0], seconds, strict=True):
        by_name.setdefault((facts.kernel, facts.shape), []).append((facts.weight_bytes, each))
    groups = [
        LaunchGroup(
            kernel=kernel,
            shape=shape,
            count=len(launches),
            weight_bytes=sum(num_bytes for num_bytes, _ in launches),
            seconds=sum(each for _, each in launches),
        )
        for (kernel, shape), launches in by_name.items()
    ]
    return ProgramReport(
        num_requests=num_requests,
        context_tokens=context_tokens,
        new_tokens=new_tokens,
        num_launches=len(seconds),
        num_buffers=recorded.program.num_buffers,
        arena_bytes=recorded.program.arena_bytes,
        groups=tuple(sorted(groups, key=lambda group: -group.seconds)),
    )


def uniform_step(
    layout: CacheLayout, num_blocks: int, num_requests: int, context_tokens: int, new_tokens: int = 1
) -> StepTensors:
    """The last `new_tokens` tokens of each request's context. Where the pool is too small, requests share blocks."""
    block_size = layout.block_size
    per_request = -(-context_tokens // block_size)
    blocks_RB = 1 + torch.arange(num_requests * per_request, dtype=torch.int32).reshape(num_requests, -1) % num_blocks
    positions_N = torch.arange(context_tokens - new_tokens, context_tokens)
    slots_T = (blocks_RB[:, positions_N // block_size].long() * block_size + positions_N % block_size).flatten()
    starts = torch.arange(num_requests + 1, dtype=torch.int32) * new_tokens
    plan = AttentionPlan(
        query_starts=starts,
        seq_lens=torch.full((num_requests,), context_tokens, dtype=torch.int32),
        block_tables=blocks_RB,
        block_size=block_size,
    )
    context = ForwardContext(positions_N.repeat(num_requests), tuple(GroupStep(plan, slots_T) for _ in layout.groups))
    return StepTensors(torch.zeros(len(slots_T), dtype=torch.int64), context, starts.long().numpy())
