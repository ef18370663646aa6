"""The paged KV cache: memory is given in blocks as tokens come, or as one contiguous piece for the longest answer there may be.

No model runs: the real scheduler and block manager are driven step by step, with tokens made up, and the blocks counted.
Contiguous pre-allocation is that same scheduler with as many seats as there are pieces.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, Point, Sample, Technique, Unit
from octavo.cache import CacheLayout, KVCacheManager
from octavo.config.quantities import format_bytes
from octavo.core.messages import ModelOutput, RequestResult, sequence_id
from octavo.core.request import Request
from octavo.core.sampling_params import SamplingParams
from octavo.scheduler import Scheduler, SchedulerLimits
from octavo.scheduler.policy import FirstComeFirstServed

NUM_PIECES = 4
"""The memory holds this many requests of the greatest length."""
NUM_STEPS, NUM_SETTLING = 800, 400
"""Steps in all, and of those the ones before the running requests are of all ages."""
MEAN_PROMPT_LEN, MEAN_OUTPUT_LEN = 161, 338
"""Of ShareGPT conversations, as Kwon et al. 2023 (arXiv 2309.06180, section 6.1) give them."""
SIGMA = 1.0
"""Of the lengths' logarithms: many short, few long."""
_MIN_WAITING = 16
_TOKEN = 7


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    yield lambda is_on, seed: _measure(subject, is_on, seed)


def _measure(subject: Subject, is_on: bool, seed: int) -> Sample:
    """How many requests run at once when others always wait, and how much of what they reserve holds a token."""
    layout = subject.layout
    piece = piece_blocks(subject)
    cache = KVCacheManager(layout, NUM_PIECES * piece, enable_prefix_caching=False)
    limits = SchedulerLimits(
        max_num_seqs=cache.pool.num_blocks if is_on else NUM_PIECES, max_num_batched_tokens=subject.step_tokens
    )
    scheduler = Scheduler(limits, cache, FirstComeFirstServed())
    requests = _requests(subject.info.max_model_len, seed)
    running, waste = [], []
    for _ in range(NUM_STEPS):
        while scheduler.stats().num_waiting < _MIN_WAITING:
            scheduler.add([next(requests)])
        batch = scheduler.schedule()
        results = [RequestResult(each.request_id, [_TOKEN] if each.is_sampled else []) for each in batch.scheduled]
        running.append(len(scheduler.running))
        scheduler.update(batch, ModelOutput(results))
        reserved = cache.pool.num_held if is_on else piece * len(scheduler.running)
        if reserved:
            filled = sum(_filled_tokens(layout, request) for request in scheduler.running)
            waste.append(1 - filled / (reserved * layout.block_size))
    settled = slice(NUM_SETTLING, None)
    return Sample(
        values={"num_running": float(np.mean(running[settled])), "waste": float(np.mean(waste[settled]))},
        curves={"running": [Point(number, count) for number, count in enumerate(running)]},
    )


def piece_blocks(subject: Subject) -> int:
    """Blocks of the memory that a request of the greatest length takes; sliding windows, and no more, where there are any."""
    return subject.layout.max_blocks(subject.info.max_model_len, subject.step_tokens)


def _filled_tokens(layout: CacheLayout, request: Request) -> int:
    """Places of the request's blocks, over all groups, whose token can still be read."""
    computed = request.num_computed_tokens
    return sum(computed - group.spec.first_readable_token(computed) for group in layout.groups)


def _requests(context: int, seed: int) -> Iterator[Request]:
    """Endless; log-normal lengths of the given means, cut where prompt and answer together would not fit the context."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        prompt_len, output_len = (
            int(np.clip(rng.lognormal(np.log(mean) - SIGMA**2 / 2, SIGMA), 1, context // 2))
            for mean in (MEAN_PROMPT_LEN, MEAN_OUTPUT_LEN)
        )
        params = SamplingParams(max_tokens=output_len, ignore_eos=True)
        yield Request(sequence_id(str(number), 0), [_TOKEN] * prompt_len, prompt_len, params, 0, output_len)
        number += 1


def _why(subject: Subject) -> str:
    context, block_size = subject.info.max_model_len, subject.info.block_size
    memory = NUM_PIECES * piece_blocks(subject) * subject.layout.block_bytes
    return (
        f"Nobody knows how long an answer will be, so a contiguous piece must hold the longest: {context:,} tokens, of "
        f"which a request of n leaves 1 − n/{context:,} unused. In blocks a request holds ⌈n/{block_size}⌉·{block_size} places "
        f"and wastes at most {block_size - 1}, half a block on average; "
        f"those that memory is short for give way and are computed again later. Counted, not timed: the real scheduler and block "
        f"manager without a model, over {format_bytes(memory)}, lengths log-normal with means of {MEAN_PROMPT_LEN} tokens in "
        f"and {MEAN_OUTPUT_LEN} out; the spread is over draws of lengths. A smaller --max-model-len makes the pieces "
        f"smaller and refuses what is longer."
    )


PAGED_KV = Technique(
    name="paged-kv",
    title="Paged KV cache",
    on="memory is given in blocks, as tokens come",
    off="each request reserves max_model_len tokens in one piece",
    figures=(
        Figure(
            name="num_running", label="requests at once in the same memory", unit=Unit.REQUESTS, is_higher_better=True
        ),
        Figure(name="waste", label="reserved memory that holds nothing", unit=Unit.SHARE),
    ),
    plots=(Plot(name="running", title="Requests in each step", x_label="step", unit=Unit.REQUESTS),),
    because="A request holds what it has written, rounded up to a block, instead of the longest it might become.",
    why=_why,
    open=_open,
    warm_up=0,
)
