"""transformers' `generate`: one static batch of prompts of one length."""

import time
from collections.abc import Sequence
from typing import Any

from worker import About, Run, serve


class FirstToken:
    """A streamer that keeps the time of the first token; what comes before it is the prompt."""

    def __init__(self) -> None:
        self.num_puts = 0
        self.time = 0.0

    def put(self, _: object) -> None:
        self.num_puts += 1
        if self.num_puts == 2:
            self.time = time.perf_counter()

    def end(self) -> None: ...


class Transformers:
    """`options`: dtype, bfloat16 or float32."""

    def __init__(
        self, model: str, threads: int, max_len: int, max_batch: int, cache_bytes: int, options: dict[str, Any]
    ) -> None:
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers
        torch.set_num_threads(threads)
        self.dtype = options["dtype"]
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, self.dtype))
        self.model.generation_config.eos_token_id = None

    def about(self) -> About:
        return About(
            versions={"transformers": self.transformers.__version__, "torch": self.torch.__version__},
            settings={"dtype": self.dtype},
            arithmetic={"bfloat16": "bf16", "float32": "fp32"}[self.dtype],
        )

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        inputs = self.torch.tensor(prompts)
        streamer = FirstToken()
        start = time.perf_counter()
        with self.torch.inference_mode():
            output = self.model.generate(
                inputs,
                attention_mask=self.torch.ones_like(inputs),
                max_new_tokens=output_len,
                do_sample=False,
                pad_token_id=0,
                streamer=streamer,
            )
        total_s = time.perf_counter() - start
        return Run(streamer.time - start, total_s, output[:, inputs.shape[1] :].tolist())


if __name__ == "__main__":
    serve(Transformers)
