"""vLLM's CPU backend, stepped in this process."""

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from worker import About, Run, serve

ARGUMENTS = {"dtype": "bfloat16", "max_num_batched_tokens": 2048}


class Vllm:
    """`options` go to the engine's arguments."""

    def __init__(
        self, model: str, threads: int, max_len: int, max_batch: int, cache_bytes: int, options: dict[str, Any]
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores)))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(math.ceil(cache_bytes / 2**30)))
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        import torch
        import vllm

        self.vllm = vllm
        self.llm = vllm.LLM(
            model=model,
            max_model_len=max_len,
            max_num_seqs=max_batch,
            enable_prefix_caching=False,
            disable_log_stats=True,
            **ARGUMENTS,
            **options,
        )
        self.torch_version = torch.__version__

    def about(self) -> About:
        return About(
            versions={"vllm": self.vllm.__version__, "torch": self.torch_version}, settings=ARGUMENTS, arithmetic="bf16"
        )

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        params = self.vllm.SamplingParams(
            temperature=0,
            max_tokens=output_len,
            ignore_eos=True,
            detokenize=False,
            output_kind=self.vllm.sampling_params.RequestOutputKind.CUMULATIVE,
        )
        engine = self.llm.llm_engine
        start = time.perf_counter()
        for index, prompt in enumerate(prompts):
            engine.add_request(str(index), {"prompt_token_ids": prompt}, params)
        waiting = {str(index) for index in range(len(prompts))}
        first = 0.0
        token_ids: dict[str, list[int]] = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                waiting.discard(output.request_id)
                if output.finished:
                    token_ids[output.request_id] = list(output.outputs[0].token_ids)
            if not waiting and not first:
                first = time.perf_counter()
        total = time.perf_counter() - start
        return Run(first - start, total, [token_ids[str(index)] for index in range(len(prompts))])


if __name__ == "__main__":
    serve(Vllm)
