"""int8 activations: quantised weights are multiplied as bytes, or made floats and multiplied with fp32 activations."""

from collections.abc import Iterator
from contextlib import contextmanager

from octavo.bench.techniques.stepping import SteppedEngine
from octavo.bench.techniques.subject import Subject
from octavo.bench.techniques.technique import Figure, Measure, Plot, PlotKind, Point, Sample, Technique, Unit
from octavo.bench.workload import random_requests
from octavo.core.weights import WeightFormat


@contextmanager
def _open(subject: Subject) -> Iterator[Measure]:
    sizes = subject.sizes
    engines = {
        is_on: SteppedEngine(subject.engine(enable_prefix_caching=False, linear_activations=kind))
        for is_on, kind in ((True, "int8"), (False, "native"))
    }

    def measure(is_on: bool, seed: int) -> Sample:
        """The tokens may differ after a while, so they are not compared; the work does not depend on them."""
        engine = engines[is_on]
        [request] = random_requests(
            1,
            input_len=sizes.prompt_len,
            output_len=sizes.output_len,
            vocab_size=subject.info.vocab_size,
            seed=seed,
        )
        engine.add(request.prompt_token_ids, sizes.output_len)
        steps = engine.run()
        prefill, decodes = steps[: len(steps) - sizes.output_len + 1], steps[len(steps) - sizes.output_len + 1 :]
        prefill_s = sum(step.duration_s for step in prefill)
        tpot_s = sum(step.duration_s for step in decodes) / len(decodes)
        return Sample(
            values={"prefill_s": prefill_s, "tpot_s": tpot_s},
            curves={
                "time": [Point("prompt, a token", prefill_s / sizes.prompt_len), Point("decode, a token", tpot_s)],
            },
        )

    yield measure


def _missing(subject: Subject) -> str | None:
    formats = sorted(subject.info.weight_formats)
    if subject.info.options["quantization"] == "int8" or any(WeightFormat(name).is_block_format for name in formats):
        return _one_token(subject)
    return f"the model's weights are {', '.join(formats)}, which bytes do not multiply; add quantization=int8"


def _one_token(subject: Subject) -> str | None:
    return (
        None if subject.sizes.output_len > 1 else "an answer of one token has no decode step; give output_len 2 or more"
    )


def _why(subject: Subject) -> str:
    formats = " and ".join(sorted(subject.info.weight_formats))
    return (
        f"The weights are {formats}: a few bits with a scale a group. Native arithmetic makes each weight a float and "
        f"multiplies it with an fp32 activation, one product a lane of 32 bits. As bytes, with a scale a token and group of "
        f"32, x·w = s_x·s_w·Σ q_x·q_w, four products fit that lane, and weights need no conversion beyond unpacking. The tokens are not "
        f"the same, because activations are rounded: bench/results/perplexity.json has what that costs. What auto takes here is "
        f"{subject.info.options['linear_activations']}."
    )


INT8_ACTIVATIONS = Technique(
    name="int8-activations",
    title="int8 activations",
    on="activations rounded to bytes, products of bytes (--linear-activations int8)",
    off="fp32 activations, weights made floats in the kernel (--linear-activations native)",
    figures=(
        Figure(name="tpot_s", label="time per output token of one request", unit=Unit.SECONDS),
        Figure(name="prefill_s", label="prefill of one prompt", unit=Unit.SECONDS),
    ),
    plots=(Plot(name="time", title="Time of a token", x_label="", unit=Unit.SECONDS, kind=PlotKind.BARS),),
    because="Four products of bytes fit where one of 32-bit floats does, and weights are not made floats first.",
    why=_why,
    open=_open,
    missing=_missing,
)
