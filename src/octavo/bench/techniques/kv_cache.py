"""The KV cache: keys and values of past tokens are kept, or computed again for each new token."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from octavo.bench.techniques.stepping import SteppedEngine, digest
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit
from octavo.bench.workload import random_requests
from octavo.config.quantities import format_bytes


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    engine = SteppedEngine(subject.engine(enable_prefix_caching=False))
    prompt_len, output_len = subject.sizes.prompt_len, subject.sizes.output_len

    def measure(is_on: bool, seed: int) -> Sample:
        [request] = random_requests(
            1, input_len=prompt_len, output_len=output_len, vocab_size=subject.info.vocab_size, seed=seed
        )
        run = _kept if is_on else _recomputed
        return run(engine, request.prompt_token_ids, output_len)

    yield measure


def _kept(engine: SteppedEngine, prompt: Sequence[int], output_len: int) -> Sample:
    request_id = engine.add(prompt, output_len)
    steps = engine.run()
    times = [step.duration_s for step in steps if step.token_ids]
    return _sample(prompt, times, engine.answer(request_id), sum(step.num_tokens for step in steps))


def _recomputed(engine: SteppedEngine, prompt: Sequence[int], output_len: int) -> Sample:
    """Each token is the first of a new request, whose prompt is all that came before."""
    answer: list[int] = []
    times, num_computed = [], 0
    for _ in range(output_len):
        request_id = engine.add([*prompt, *answer], 1)
        steps = engine.run()
        times.append(sum(step.duration_s for step in steps))
        num_computed += sum(step.num_tokens for step in steps)
        answer += engine.answer(request_id)
    return _sample(prompt, times, answer, num_computed)


def _sample(prompt: Sequence[int], times: Sequence[float], answer: Sequence[int], num_computed: int) -> Sample:
    """The first token comes from the prompt either way, so times count from the second."""
    later = times[1:]
    return Sample(
        values={"tpot_s": sum(later) / len(later), "num_computed_tokens": num_computed},
        curves={"token": [Point(len(prompt) + 1 + number, seconds) for number, seconds in enumerate(later)]},
        outcome=digest([answer]),
    )


def _missing(subject: Subject) -> str | None:
    return None if subject.sizes.output_len > 1 else "an answer of one token reads no cache; give output_len 2 or more"


def _why(subject: Subject) -> str:
    prompt_len, output_len = subject.sizes.prompt_len, subject.sizes.output_len
    return (
        f"With the cache a token reads the weights once "
        f"({format_bytes(subject.info.weight_bytes)} as stored) and {format_bytes(subject.token_bytes)} of keys and "
        f"values for each of the n tokens before it. Without, all n are computed again: n times the arithmetic, so an "
        f"answer of m tokens after a prompt of p takes m·p + m·(m−1)/2 tokens instead of p + m − 1; here p = {prompt_len} "
        f"and m = {output_len}. The gain grows with the text; it is less than n because a step of one token waits for "
        f"memory, which a step of many shares."
    )


KV_CACHE = Technique(
    name="kv-cache",
    title="KV cache",
    on="each token's keys and values are kept",
    off="each token's step is a prefill of all tokens before it, by the same kernels",
    figures=(
        Figure(name="tpot_s", label="time per output token", unit=Unit.SECONDS),
        Figure(name="num_computed_tokens", label="tokens computed for prompt and answer", unit=Unit.TOKENS),
    ),
    plots=(Plot(name="token", title="Time of each token", x_label="tokens so far", unit=Unit.SECONDS),),
    because="A token's step computes one token instead of all that came before it.",
    why=_why,
    same="tokens",
    open=_open,
    missing=_missing,
)
