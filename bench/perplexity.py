"""What quantised weights and narrow activations cost: the perplexity of one English text, beside the peers' on the same files.

    python bench/perplexity.py [--json bench/results/perplexity.json] [--threads 2]

Every engine gets the same token ids (of tests/data/harbour.txt). `make peers` installs the peers; those that are not there
are left out.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.groups import CONVERTED, MODELS, PEERS

from octavo import LLM, SamplingParams
from octavo.bench.circumstances import hardware, software

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "tests" / "data" / "harbour.txt"
KINDS = ("native", "bf16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []

    def add(model: str, engine: str, file: Path, loss: float | None) -> None:
        if loss is not None:
            results.append({"model": model, "engine": engine, "file": file.name, "perplexity": math.exp(loss)})
            print(f"{model:14} {engine:40} {file.name:36} {math.exp(loss):8.3f}", flush=True)

    for name, model in MODELS.items():
        bf16 = CONVERTED / f"{name}-bf16"
        with LLM(str(model.gguf), kv_cache_memory="16M", max_model_len=64) as llm:
            token_ids = llm.tokenizer.encode(TEXT.read_text())
        for kind in KINDS:
            add(
                name,
                f"Octavo, {kind} activations",
                model.gguf,
                octavo_loss(model.gguf, token_ids, arguments.threads, kind),
            )
        for file in (model.gguf, CONVERTED / f"{name}-Q4_0.gguf"):
            add(name, "llama.cpp", file, peer_loss("llama_cpp", file, token_ids, arguments.threads))
        if bf16.exists():
            for quantization in (None, "int8"):
                for kind in KINDS[:2] if quantization is None else KINDS:
                    title = f"Octavo{f' {quantization}' if quantization else ''}, {kind} activations"
                    add(name, title, bf16, octavo_loss(bf16, token_ids, arguments.threads, kind, quantization))
        add(name, "transformers fp32", bf16, peer_loss("transformers", bf16, token_ids, arguments.threads))
        int8 = CONVERTED / f"{name}-openvino-int8"
        add(name, "OpenVINO int8", int8, peer_loss("openvino", int8, token_ids, arguments.threads))
    if arguments.json:
        report = {
            "command": f"python {' '.join(['bench/perplexity.py', *sys.argv[1:]])}",
            "threads": arguments.threads,
            "software": dataclasses.asdict(software()),
            "hardware": dataclasses.asdict(hardware()),
            "text": TEXT.name,
            "results": results,
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def octavo_loss(
    model: Path, token_ids: list[int], threads: int, activations: str, quantization: str | None = None
) -> float:
    options = {"kv_cache_memory": "128M", "max_model_len": 1024, "skip_tokenizer_init": True, "threads": threads}
    with LLM(str(model), linear_activations=activations, quantization=quantization, **options) as llm:
        [output] = llm.generate([token_ids], SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False))
    assert output.prompt_logprobs is not None
    entries = zip(token_ids[1:], output.prompt_logprobs[1:], strict=True)
    losses = [-entry[token].logprob for token, entry in entries if entry is not None]
    return sum(losses) / len(losses)


def peer_loss(peer: str, model: Path, token_ids: list[int], threads: int) -> float | None:
    python = PEERS / peer / "bin" / "python"
    if not python.exists() or not model.exists():
        return None
    command = [str(python), str(Path(__file__).parent / "peers" / "perplexity.py"), peer, str(model), str(threads)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, input=json.dumps(token_ids), capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"{peer} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["mean_loss"])


if __name__ == "__main__":
    main()
