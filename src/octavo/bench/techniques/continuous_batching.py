"""Continuous batching: a seat that a finished request leaves is taken at once, or when the whole batch has ended."""

from collections.abc import Iterator
from contextlib import contextmanager

from octavo.bench.techniques.stepping import SteppedEngine, digest
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit
from octavo.bench.workload import random_requests

RANGE_RATIO = 0.9
"""Answers differ as those of real requests do: from a tenth of the mean to nearly twice."""


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    sizes = subject.sizes
    options = {"enable_prefix_caching": False, "max_num_seqs": sizes.max_num_seqs}
    engines = {
        True: SteppedEngine(subject.engine(**options)),
        False: SteppedEngine(subject.engine(batching="static", **options)),
    }

    def measure(is_on: bool, seed: int) -> Sample:
        engine = engines[is_on]
        requests = random_requests(
            sizes.num_requests,
            input_len=max(1, sizes.prompt_len // 4),
            output_len=sizes.output_len,
            vocab_size=subject.info.vocab_size,
            seed=seed,
            range_ratio=RANGE_RATIO,
        )
        ids = [engine.add(request.prompt_token_ids, request.output_len) for request in requests]
        steps = engine.run()
        begin_s, duration_s = steps[0].begin_s, steps[-1].end_s - steps[0].begin_s
        first_s: dict[str, float] = {}
        for step in steps:
            for request_id in step.token_ids:
                first_s.setdefault(request_id, step.end_s - begin_s)
        return Sample(
            values={
                "output_tokens_per_s": sum(request.output_len for request in requests) / duration_s,
                "seats": sum(step.num_running for step in steps) / (len(steps) * sizes.max_num_seqs),
                "ttft_s": sum(first_s.values()) / len(first_s),
            },
            curves={"seats": [Point(number, step.num_running) for number, step in enumerate(steps)]},
            outcome=digest([engine.answer(each) for each in ids]),
        )

    yield measure


def _missing(subject: Subject) -> str | None:
    sizes = subject.sizes
    if 1 < sizes.max_num_seqs < sizes.num_requests:
        return None
    return f"{sizes.num_requests} requests and {sizes.max_num_seqs} seats: nobody waits for a seat of a batch; give more requests"


def _why(subject: Subject) -> str:
    sizes = subject.sizes
    return (
        f"The seats of a static batch of {sizes.max_num_seqs} are filled to mean ÷ longest length. "
        f"A decode step reads the same weights for one request as for {sizes.max_num_seqs}, so an empty seat is "
        f"work not done at nearly the same price. Answers here vary by ± {RANGE_RATIO:.0%}; were they of one length, "
        f"there would be nothing to gain."
    )


CONTINUOUS_BATCHING = Technique(
    name="continuous-batching",
    title="Continuous batching",
    on="a free seat is taken in the next step",
    off="a batch runs to its end before the next one starts (--batching static)",
    figures=(
        Figure(name="output_tokens_per_s", label="output tokens/s", unit=Unit.TOKENS_PER_S, is_higher_better=True),
        Figure(name="seats", label="seats in use", unit=Unit.SHARE, is_higher_better=True),
        Figure(name="ttft_s", label="mean time to first token", unit=Unit.SECONDS),
    ),
    plots=(Plot(name="seats", title="Requests in each step", x_label="step", unit=Unit.REQUESTS),),
    because="A static batch waits for its longest answer with empty seats, and a step costs nearly the same with empty ones.",
    why=_why,
    same="tokens",
    open=_open,
    missing=_missing,
)
