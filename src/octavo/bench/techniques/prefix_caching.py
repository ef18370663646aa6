"""Prefix caching: blocks of a prefix that was computed before are found again, or computed again."""

from collections.abc import Iterator
from contextlib import contextmanager

from octavo.bench.techniques.stepping import SteppedEngine, digest
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, PlotKind, Point, Sample, Technique, Unit
from octavo.bench.workload import random_requests

NUM_QUESTIONS = 8
MAX_QUESTION_LEN = 32
OUTPUT_LEN = 4


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    sizes, vocab_size = subject.sizes, subject.info.vocab_size
    question_len = min(MAX_QUESTION_LEN, max(1, sizes.prefix_len // 4))
    engines = {is_on: SteppedEngine(subject.engine(enable_prefix_caching=is_on)) for is_on in (True, False)}

    def measure(is_on: bool, seed: int) -> Sample:
        """One request after the other; the seed's prefix is new to the cache."""
        engine = engines[is_on]
        shape = {"output_len": OUTPUT_LEN, "vocab_size": vocab_size}
        [prefix] = random_requests(1, input_len=sizes.prefix_len, seed=2 * seed, **shape)
        questions = random_requests(NUM_QUESTIONS, input_len=question_len, seed=2 * seed + 1, **shape)
        times, answers, num_prompt_tokens = [], [], 0
        for question in questions:
            request_id = engine.add(prefix.prompt_token_ids + question.prompt_token_ids, OUTPUT_LEN)
            steps = engine.run()
            prefill = steps[: 1 - OUTPUT_LEN]
            times.append(prefill[-1].end_s - prefill[0].begin_s)
            num_prompt_tokens += sum(step.num_tokens for step in prefill)
            answers.append(engine.answer(request_id))
        later = times[1:]
        return Sample(
            values={"ttft_s": sum(later) / len(later), "num_prompt_tokens": num_prompt_tokens},
            curves={"ttft": [Point(str(number + 1), seconds) for number, seconds in enumerate(times)]},
            outcome=digest(answers),
        )

    yield measure


def _missing(subject: Subject) -> str | None:
    prefix_len, block_size = subject.sizes.prefix_len, subject.info.block_size
    if prefix_len >= block_size:
        return None
    return f"a prefix of {prefix_len} tokens fills no block of {block_size}; give a prefix_len of {block_size} or more"


def _why(subject: Subject) -> str:
    prefix_len, block_size = subject.sizes.prefix_len, subject.info.block_size
    return (
        f"A second request finds "
        f"⌊{prefix_len} / {block_size}⌋·{block_size} = {prefix_len // block_size * block_size} of the system prompt's "
        f"{prefix_len} tokens in the cache and computes only what follows. The first of {NUM_QUESTIONS} requests computes "
        f"them all; the figure is of those after it."
    )


PREFIX_CACHING = Technique(
    name="prefix-caching",
    title="Prefix caching",
    on="blocks of the shared system prompt are found in the cache",
    off="each request computes its whole prompt (--no-enable-prefix-caching)",
    figures=(
        Figure(name="ttft_s", label="time to first token, from the second request on", unit=Unit.SECONDS),
        Figure(name="num_prompt_tokens", label="prompt tokens computed", unit=Unit.TOKENS),
    ),
    plots=(
        Plot(
            name="ttft",
            title="Time to first token of each request",
            x_label="request",
            unit=Unit.SECONDS,
            kind=PlotKind.BARS,
        ),
    ),
    because="Blocks whose key, a hash of all tokens up to their end, is known are not computed again.",
    why=_why,
    same="tokens",
    open=_open,
    missing=_missing,
)
