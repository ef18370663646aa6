"""llama.cpp through its low-level API: one batch of all sequences a step."""

import time
from collections.abc import Sequence
from typing import Any

from worker import About, Run, serve

FASTEST = {"extra_bufts": True, "flash_attn": False, "kv_unified": False, "n_batch": 2048, "n_ubatch": 512}
"""Found on two cores with AMX and SmolLM2, in tokens a second of decode with one request after 512 tokens and with eight
after 128: these 178 and 438; flash attention on 86 and 361; AMX buffers off as well 64 and 179; on, with one unified
cache, 88 and 332. Prompts alone are the exception: of 512 tokens, flash attention on 1,442 and off 1,031."""


class LlamaCpp:
    """`options` change `FASTEST`."""

    def __init__(
        self, model: str, threads: int, max_len: int, max_batch: int, cache_bytes: int, options: dict[str, Any]
    ) -> None:
        import llama_cpp
        import numpy as np

        self.lib, self.np = llama_cpp, np
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        self.settings = {**FASTEST, **options}
        model_params.use_extra_bufts = self.settings["extra_bufts"]
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), model_params)
        if self.model is None:
            raise RuntimeError("llama.cpp cannot load the file")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max_len * max_batch
        params.n_seq_max = max_batch
        params.n_batch = self.settings["n_batch"]
        params.n_ubatch = self.settings["n_ubatch"]
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(self.settings["flash_attn"])
        params.kv_unified = self.settings["kv_unified"]
        params.no_perf = True
        self.n_batch = params.n_batch
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if self.context is None:
            raise RuntimeError("llama.cpp cannot make the context")
        self.num_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(self.n_batch, 0, 1)

    def about(self) -> About:
        features = self.lib.llama_print_system_info().decode().strip()
        return About(
            versions={"llama-cpp-python": self.lib.__version__},
            settings={**self.settings, "features": features},
            arithmetic="int8",
        )

    def run(self, prompts: Sequence[list[int]], output_len: int) -> Run:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), False)
        start = time.perf_counter()
        tokens = self._prefill(prompts)
        first = time.perf_counter()
        lengths = [len(prompt) for prompt in prompts]
        batch, token_ids = self.batch, [[token] for token in tokens]
        for step in range(output_len - 1):
            batch.n_tokens = len(tokens)
            for index, token in enumerate(tokens):
                self._put(index, token, lengths[index] + step, index, True)
            self._decode()
            tokens = [self._greedy(index) for index in range(len(tokens))]
            for answer, token in zip(token_ids, tokens, strict=True):
                answer.append(token)
        return Run(first - start, time.perf_counter() - start, token_ids)

    def _prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        """The first token of each."""
        first = [0] * len(prompts)
        count, ends = 0, {}
        for sequence, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                is_last = position == len(prompt) - 1
                self._put(count, token, position, sequence, is_last)
                if is_last:
                    ends[sequence] = count
                count += 1
                if count == self.n_batch or (is_last and sequence == len(prompts) - 1):
                    self.batch.n_tokens = count
                    self._decode()
                    for done, row in ends.items():
                        first[done] = self._greedy(row)
                    count, ends = 0, {}
        return first

    def _put(self, index: int, token: int, position: int, sequence: int, needs_logits: bool) -> None:
        batch = self.batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = needs_logits

    def _decode(self) -> None:
        status = self.lib.llama_decode(self.context, self.batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gave {status}")

    def _greedy(self, row: int) -> int:
        """By numpy, which took 11 µs of 49,152 logits and 45 µs of 262,144, where `llama_sampler_sample` with the greedy
        sampler, which makes a candidate of every logit first, took 66 µs and 400 µs."""
        logits = self.lib.llama_get_logits_ith(self.context, row)
        return int(self.np.ctypeslib.as_array(logits, shape=(self.num_vocab,)).argmax())


if __name__ == "__main__":
    serve(LlamaCpp)
