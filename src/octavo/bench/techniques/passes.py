"""Forward passes of one model, over steps of several shapes: what the kernels of a step take, without scheduling and sampling."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Measure, Point, Sample
from octavo.worker.forward_pass import ForwardPass
from octavo.worker.model_runner import ModelRunner
from octavo.worker.program_report import uniform_step

NUM_STEPS = 15
"""Of each shape in one run; their median counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """A step that computes the last `new_tokens` of `context_tokens` tokens of each request."""

    name: str
    label: str
    num_requests: int
    context_tokens: int
    new_tokens: int


@contextmanager
def passes_in_turn(
    subject: Subject, shapes: Sequence[StepShape], make: Callable[[ModelRunner, bool, int, int], ForwardPass]
) -> Iterator[Measure]:
    """`make(runner, is_on, max_tokens, max_requests)`: both passes are over the same weights and the same cache."""
    runner = subject.engine(enable_prefix_caching=False).runner
    max_tokens = max(shape.num_requests * shape.new_tokens for shape in shapes)
    max_requests = max(shape.num_requests for shape in shapes)
    with torch.inference_mode():
        passes = {is_on: make(runner, is_on, max_tokens, max_requests) for is_on in (True, False)}

    def measure(is_on: bool, seed: int) -> Sample:
        """The seed changes nothing: a pass does the same whatever the tokens are."""
        values: dict[str, float] = {}
        digests = hashlib.sha256()
        for shape in shapes:
            values[shape.name], logits = _time(runner, passes[is_on], shape, subject.info.num_blocks)
            digests.update(logits)
        curve = [Point(shape.label, values[shape.name]) for shape in shapes]
        return Sample(values=values, curves={"step": curve}, outcome=digests.hexdigest())

    yield measure


@torch.inference_mode()
def _time(runner: ModelRunner, forward: ForwardPass, shape: StepShape, num_blocks: int) -> tuple[float, bytes]:
    """Seconds of a step, and the bits of its logits."""
    step = uniform_step(runner.layout, num_blocks, shape.num_requests, shape.context_tokens, shape.new_tokens)
    num_tokens = shape.num_requests * shape.new_tokens
    last = torch.arange(shape.new_tokens - 1, num_tokens, shape.new_tokens)
    times = []
    for _ in range(NUM_STEPS):
        start = time.perf_counter()
        output = forward(step, last)
        times.append(time.perf_counter() - start)
    return median(times), output.logits_RV.numpy().tobytes()
