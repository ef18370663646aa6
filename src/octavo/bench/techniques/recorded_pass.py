"""The recorded pass: a step is one native call that replays its kernels, or Python calls them op by op."""

from contextlib import AbstractContextManager

import torch

from octavo import ops
from octavo.bench.techniques.passes import StepShape, passes_in_turn
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, PlotKind, Technique, Unit
from octavo.worker.forward_pass import ForwardPass, PlainPass, RecordedPass
from octavo.worker.model_runner import ModelRunner

NUM_REQUESTS = (1, 8, 32)


def _open(subject: Subject) -> AbstractContextManager[Measure]:
    context = min(subject.sizes.prompt_len, subject.info.max_model_len)
    shapes = [
        StepShape(name=f"step_{count}_s", label=str(count), num_requests=count, context_tokens=context, new_tokens=1)
        for count in NUM_REQUESTS
    ]
    return passes_in_turn(subject, shapes, _make)


def _make(runner: ModelRunner, is_on: bool, max_tokens: int, max_requests: int) -> ForwardPass:
    if not is_on:
        return PlainPass(runner.model)
    return RecordedPass(runner.model, runner.layout, max_tokens=max_tokens, max_sampled=max_requests, is_fused=False)


def missing_replay(subject: Subject) -> str | None:
    device = torch.device(subject.info.options["device"])
    return None if ops.can_replay(device) else f"passes are not recorded with the {ops.isa()} kernels"


def _why(subject: Subject) -> str:
    return (
        f"Op by op, each kernel of {subject.info.num_layers} layers costs a call, checks "
        f"and tensors in Python, tens of microseconds whatever its size, so a step costs number of kernels × overhead more; "
        f"replayed, the addresses and sizes are known and Python is not in the loop. What is gained is a constant, so it counts "
        f"most where a step is short. The same kernels run in the same order, none of them fused."
    )


RECORDED_PASS = Technique(
    name="recorded-pass",
    title="Recorded pass",
    on="a step's kernels are replayed by one native call",
    off="Python calls them op by op (--enforce-eager)",
    figures=tuple(
        Figure(
            name=f"step_{count}_s",
            label=f"decode step of {count} request{'s' if count > 1 else ''}",
            unit=Unit.SECONDS,
        )
        for count in NUM_REQUESTS
    ),
    plots=(Plot(name="step", title="A decode step", x_label="requests", unit=Unit.SECONDS, kind=PlotKind.BARS),),
    because="Several hundred calls from Python, each of a constant cost, become one.",
    why=_why,
    same="logits, bit for bit",
    open=_open,
    missing=missing_replay,
)
