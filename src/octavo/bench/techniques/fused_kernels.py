"""Fused kernels: neighbouring operations of the recorded pass become one, or each reads and writes memory by itself."""

from contextlib import AbstractContextManager

from octavo.bench.techniques.passes import StepShape, passes_in_turn
from octavo.bench.techniques.recorded_pass import missing_replay
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, PlotKind, Technique, Unit
from octavo.worker.forward_pass import ForwardPass, RecordedPass
from octavo.worker.model_runner import ModelRunner

NUM_DECODES = 8


def _open(subject: Subject) -> AbstractContextManager[Measure]:
    prompt_len, budget = subject.sizes.prompt_len, subject.step_tokens
    num_tokens = min(budget, prompt_len)
    prompt = {"num_requests": 1, "context_tokens": num_tokens, "new_tokens": num_tokens}
    decode = {"context_tokens": prompt_len, "new_tokens": 1}
    shapes = [
        StepShape(name="prompt_s", label=f"prompt of {num_tokens}", **prompt),
        StepShape(name="decode_1_s", label="decode of 1", num_requests=1, **decode),
        StepShape(name="decode_8_s", label=f"decode of {NUM_DECODES}", num_requests=NUM_DECODES, **decode),
    ]
    return passes_in_turn(subject, shapes, _make)


def _make(runner: ModelRunner, is_on: bool, max_tokens: int, max_requests: int) -> ForwardPass:
    return RecordedPass(runner.model, runner.layout, max_tokens=max_tokens, max_sampled=max_requests, is_fused=is_on)


def _why(subject: Subject) -> str:
    return (
        "Fused, a norm leaves what the next "
        "layer multiplies with, a gated layer's two sums never leave the core that makes them (8 bytes a token and feature "
        "written and read less), and rotation and cache store are one pass over the heads. That is b·T·C bytes for each "
        "operation saved, of T tokens and C channels: it counts for prompts, where T is large, and hardly for decode, whose "
        "time is reading weights."
    )


FUSED_KERNELS = Technique(
    name="fused-kernels",
    title="Fused kernels",
    on="the recorded pass with neighbouring operations in one kernel",
    off="the same recording, one kernel an operation",
    figures=(
        Figure(name="prompt_s", label="step of one prompt", unit=Unit.SECONDS),
        Figure(name="decode_1_s", label="decode step of 1 request", unit=Unit.SECONDS),
        Figure(name="decode_8_s", label=f"decode step of {NUM_DECODES} requests", unit=Unit.SECONDS),
    ),
    plots=(Plot(name="step", title="A step", x_label="", unit=Unit.SECONDS, kind=PlotKind.BARS),),
    because="What one operation leaves for the next stays in a core's cache instead of going to memory and back.",
    why=_why,
    same="logits, bit for bit",
    open=_open,
    missing=missing_replay,
)
