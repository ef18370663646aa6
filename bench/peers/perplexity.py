"""The perplexity that one peer gives a text; run by bench/perplexity.py in the peer's own environment.

    python bench/peers/perplexity.py llama_cpp|openvino|transformers MODEL THREADS < token_ids.json

Prints a line of JSON: the mean loss of each token after the first, in nats.
"""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any


def llama_cpp_logits(model: str, threads: int, token_ids: Sequence[int]) -> Any:
    import llama_cpp

    llm = llama_cpp.Llama(
        model, n_ctx=len(token_ids) + 8, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False
    )
    llm.eval(list(token_ids))
    return llm.scores[: len(token_ids)]


def openvino_logits(model: str, threads: int, token_ids: Sequence[int]) -> Any:
    import numpy as np
    import openvino

    compiled = openvino.Core().compile_model(f"{model}/openvino_model.xml", "CPU", {"INFERENCE_NUM_THREADS": threads})
    ids = np.array([token_ids], dtype=np.int64)
    values = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(len(token_ids), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    names = {name for port in compiled.inputs for name in port.get_names()}
    result = compiled.create_infer_request().infer({name: value for name, value in values.items() if name in names})
    return result[compiled.output("logits")][0]


def transformers_logits(model: str, threads: int, token_ids: Sequence[int]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.inference_mode():
        return loaded(torch.tensor([token_ids])).logits[0].numpy()


ENGINES = {"llama_cpp": llama_cpp_logits, "openvino": openvino_logits, "transformers": transformers_logits}


def mean_loss(logits: Any, token_ids: Sequence[int]) -> float:
    import numpy as np

    losses = []
    for row, token in zip(np.asarray(logits, dtype=np.float64)[:-1], token_ids[1:], strict=True):
        top = row.max()
        losses.append(top + math.log(np.exp(row - top).sum()) - row[token])
    return sum(losses) / len(losses)


if __name__ == "__main__":
    name, path, num_threads = sys.argv[1:]
    ids = json.load(sys.stdin)
    print(json.dumps({"mean_loss": mean_loss(ENGINES[name](path, int(num_threads), ids), ids)}))
