"""Octavo itself, through `LLM`, by the same protocol as its peers."""

import time
from collections.abc import Sequence
from typing import Any

from worker import About, Run, serve


class Octavo:
    """`options` are the engine's. Token ids in and out: the tokenizer of a converted directory is not needed."""

    def __init__(
        self, model: str, threads: int, max_len: int, max_batch: int, cache_bytes: int, options: dict[str, Any]
    ) -> None:
        import octavo

        self.octavo = octavo
        self.llm = octavo.LLM(
            model,
            threads=threads,
            max_model_len=max_len,
            max_num_seqs=max_batch,
            kv_cache_memory=cache_bytes,
            enable_prefix_caching=False,
            skip_tokenizer_init=True,
            **options,
        )

    def about(self) -> About:
        info = self.llm.info
        activations = info.options["linear_activations"]
        is_float = set(info.weight_formats) <= {"F32", "F16", "BF16"}
        is_native = activations == "native" or (activations == "int8" and is_float)
        return About(
            versions={"octavo": self.octavo.__version__},
            settings={
                "linear_activations": activations,
                "kv_cache_dtype": info.options["kv_cache_dtype"],
                "isa": info.isa,
                "weight_formats": ", ".join(info.weight_formats),
            },
            arithmetic="fp32" if is_native else activations,
        )

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        params = self.octavo.SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        start = time.monotonic()  # the clock of `arrival_s`
        outputs = self.llm.generate(prompts, params, show_progress=False)
        total_s = time.monotonic() - start
        for output in outputs:
            if output.error is not None:
                raise RuntimeError(output.error)
        first = max(output.metrics.arrival_s + output.metrics.ttft_s for output in outputs)
        return Run(first - start, total_s, [list(output.outputs[0].token_ids) for output in outputs])


if __name__ == "__main__":
    serve(Octavo)
