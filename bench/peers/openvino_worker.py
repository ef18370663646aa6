"""OpenVINO GenAI's continuous batching on its exported int8 model."""

import math
import time
from collections.abc import Sequence
from typing import Any

from worker import About, Run, serve


class OpenVino:
    """`options`: `properties` of the CPU plug-in, beside the number of threads."""

    def __init__(
        self, model: str, threads: int, max_len: int, max_batch: int, cache_bytes: int, options: dict[str, Any]
    ) -> None:
        import numpy as np
        import openvino
        import openvino_genai

        self.genai, self.openvino, self.np = openvino_genai, openvino, np
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = math.ceil(cache_bytes / 2**30)
        scheduler.max_num_seqs = max_batch
        scheduler.max_num_batched_tokens = self.max_num_batched_tokens = options.get("max_num_batched_tokens", 2048)
        scheduler.enable_prefix_caching = False
        properties = {"INFERENCE_NUM_THREADS": threads, **options.get("properties", {})}
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)

    def about(self) -> About:
        return About(
            versions={"openvino-genai": self.genai.__version__, "openvino": self.openvino.__version__},
            settings={"max_num_batched_tokens": self.max_num_batched_tokens},
            arithmetic="int8",
        )

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        config = self.genai.GenerationConfig(
            max_new_tokens=output_len, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        inputs = [self.openvino.Tensor(self.np.array([prompt], dtype=self.np.int64)) for prompt in prompts]
        start = time.perf_counter()
        waiting = {index: self.pipeline.add_request(index, tokens, config) for index, tokens in enumerate(inputs)}
        handles = list(waiting.values())
        token_ids: list[list[int]] = [[] for _ in handles]
        first = 0.0
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            if waiting:
                done = [index for index, handle in waiting.items() if handle.can_read()]
                for index in done:
                    token_ids[index] += self._read(waiting.pop(index))
                if not waiting:
                    first = time.perf_counter()
        total = time.perf_counter() - start
        for index, handle in enumerate(handles):
            while handle.can_read():
                token_ids[index] += self._read(handle)
        return Run(first - start, total, token_ids)

    @staticmethod
    def _read(handle: Any) -> list[int]:
        return [token for each in handle.read().values() for token in each.generated_ids]


if __name__ == "__main__":
    serve(OpenVino)
