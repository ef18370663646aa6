"""Chunked prefill: a long prompt is computed in pieces between the steps of others, or in one step that all wait for."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from octavo.bench.techniques.stepping import Step, SteppedEngine, digest
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit
from octavo.bench.workload import random_requests
from octavo.core.errors import EngineDeadError
from octavo.scheduler.step import MIN_SHARE_TOKENS

NUM_RUNNING = 4
"""Requests that are decoding when the long prompt arrives."""
MAX_SHORT_LEN = 32
"""Tokens of a short prompt."""
STEPS_BEFORE = 4
"""Tokens that each has before."""


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    context, budget = _context(subject), subject.step_tokens
    whole = max(budget, context) + NUM_RUNNING  # the prompt, and a token for each that decodes
    options = {"enable_prefix_caching": False, "max_model_len": context}
    engines = {
        True: SteppedEngine(
            subject.engine(enable_chunked_prefill=True, max_num_batched_tokens=budget, **options),
        ),
        False: SteppedEngine(
            subject.engine(enable_chunked_prefill=False, max_num_batched_tokens=whole, **options),
        ),
    }
    yield lambda is_on, seed: _measure(engines[is_on], subject, seed)


def _short_len(subject: Subject) -> int:
    return min(MAX_SHORT_LEN, max(1, subject.sizes.prompt_len // 4))


def _running_len(subject: Subject) -> int:
    """Tokens of an answer that is still being written when the long prompt has been computed in chunks."""
    short_len, budget = _short_len(subject), subject.step_tokens
    most_steps_ahead = math.ceil(NUM_RUNNING * short_len / budget)
    steps_of_chunks = math.ceil((subject.sizes.long_prompt_len + short_len) / (budget - NUM_RUNNING))
    return STEPS_BEFORE + most_steps_ahead + steps_of_chunks + 1


def _context(subject: Subject) -> int:
    """The longest request here: without chunks a step must have room for it."""
    return max(subject.sizes.long_prompt_len + 1, _short_len(subject) + _running_len(subject))


def _measure(engine: SteppedEngine, subject: Subject, seed: int) -> Sample:
    """Requests decode; a long prompt arrives; while its first step runs, a short request does."""
    vocab_size, running_len = subject.info.vocab_size, _running_len(subject)
    shorts = random_requests(
        NUM_RUNNING + 1, input_len=_short_len(subject), output_len=running_len, vocab_size=vocab_size, seed=seed
    )
    [long] = random_requests(
        1, input_len=subject.sizes.long_prompt_len, output_len=1, vocab_size=vocab_size, seed=seed + 1
    )
    running = [engine.add(request.prompt_token_ids, running_len) for request in shorts[:NUM_RUNNING]]
    while min(len(engine.answer(each)) for each in running) < STEPS_BEFORE:
        engine.step()
    long_id = engine.add(long.prompt_token_ids, 1)
    steps = [engine.step()]
    short_id = engine.add(shorts[-1].prompt_token_ids, 1)
    steps += engine.run()
    return Sample(
        values=_values(steps, long_id, short_id, running),
        curves={"waiting": _waiting(_gaps(steps, running, long_id))},
        outcome=digest([engine.answer(each) for each in (*running, long_id, short_id)]),
    )


def _values(steps: list[Step], long_id: str, short_id: str, running: list[str]) -> dict[str, float]:
    """The short request's time counts from the start of the long prompt's first step, during which it arrived."""
    short, long = _first(steps, short_id), _first(steps, long_id)
    begin_s = steps[0].begin_s
    return {
        "short_ttft_s": steps[short].end_s - begin_s,
        "num_tokens_before": sum(step.num_tokens for step in steps[: short + 1]),
        "longest_itl_s": max(point.y for point in _gaps(steps, running, long_id)),
        "long_ttft_s": steps[long].end_s - begin_s,
    }


def _first(steps: list[Step], request_id: str) -> int:
    """The step that gave the request's first token."""
    return next(index for index, step in enumerate(steps) if request_id in step.token_ids)


def _gaps(steps: list[Step], running: list[str], long_id: str) -> list[Point]:
    """Until the long prompt is computed: when each token of the running requests came, and the time since the last."""
    gaps, last_s = [], steps[0].begin_s
    for step in steps[: _first(steps, long_id) + 1]:
        if not all(each in step.token_ids for each in running):
            raise EngineDeadError(
                "a running request stood still in a step, so its inter-token latency was not measured"
            )
        gaps.append(Point(step.end_s - steps[0].begin_s, step.end_s - last_s))
        last_s = step.end_s
    return gaps


def _waiting(gaps: list[Point]) -> list[Point]:
    """How long a running request has waited for its next token: a tooth for each gap."""
    teeth = []
    for gap in gaps:
        teeth += [Point(float(gap.x) - gap.y, 0.0), gap, Point(gap.x, 0.0)]
    return teeth


def _missing(subject: Subject) -> str | None:
    long_len, budget, context = subject.sizes.long_prompt_len, subject.step_tokens, subject.info.max_model_len
    if budget <= NUM_RUNNING:
        return f"a step of {budget} tokens has none left beside {NUM_RUNNING} that decode; raise max_num_batched_tokens"
    if long_len <= budget:
        return (
            f"the long prompt of {long_len} tokens fits one step of {budget}, so there is nothing to cut; lower "
            "max_num_batched_tokens or give a longer long_prompt_len"
        )
    if _context(subject) > context:
        return (
            f"answers that last as long as the chunks need a context of {_context(subject)} tokens, and it is {context}; "
            "raise max_num_batched_tokens or give a shorter long_prompt_len"
        )
    return None


def _why(subject: Subject) -> str:
    long_len, budget = subject.sizes.long_prompt_len, subject.step_tokens
    return (
        f"Cut into chunks of at most {budget} tokens, {long_len} tokens take at "
        f"least ⌈{long_len} / {budget}⌉ = {math.ceil(long_len / budget)} steps, each with a token for everyone who "
        f"decodes and, in steps of {2 * MIN_SHARE_TOKENS} tokens or more, room for a new prompt, so a request "
        f"that arrives meanwhile has its first token within two steps. "
        f"Uncut, all wait for the one step (the short request arrives as it begins). The long prompt itself pays with "
        f"the others' tokens that are computed before it is done, and with keys that are read once a chunk; activations of "
        f"small steps, which stay in the caches, make up for some of it."
    )


CHUNKED_PREFILL = Technique(
    name="chunked-prefill",
    title="Chunked prefill",
    on="a long prompt is computed in chunks of the step's token budget",
    off="a prompt is computed in one step (--no-enable-chunked-prefill)",
    figures=(
        Figure(
            name="short_ttft_s",
            label="time to first token of a short request that arrives meanwhile",
            unit=Unit.SECONDS,
        ),
        Figure(name="num_tokens_before", label="tokens computed until then", unit=Unit.TOKENS),
        Figure(name="longest_itl_s", label="longest inter-token latency of running requests", unit=Unit.SECONDS),
        Figure(name="long_ttft_s", label="time to first token of the long prompt", unit=Unit.SECONDS),
    ),
    plots=(
        Plot(
            name="waiting",
            title="Time since a running request's last token, while the long prompt is computed",
            x_label="seconds since it arrived",
            unit=Unit.SECONDS,
        ),
    ),
    because="Whoever shares a step waits for all of it, so steps are kept short and everyone has a part in each.",
    why=_why,
    same="tokens",
    open=_open,
    missing=_missing,
)
