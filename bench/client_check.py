"""Whether `octavo bench serve` is right: the same load on the same server, in turn, by it and by vLLM's own client.

    python bench/client_check.py [--rounds 5] [--clients 8] [--num-prompts 64] [--json bench/results/client-check.json]

`make peers` installs vLLM. Each client has prompts of random words of its own, from the same maker, so that neither finds
the other's in the prefix cache, and asks for answers past the model's end token. Shown are the medians over the rounds,
their ratio, and how far the rounds of one client lie apart.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers.groups import CONVERTED, GROUPS, PEERS
from peers.servers import MODEL_NAME, RunningServer

from octavo.bench.circumstances import circumstances
from octavo.bench.serve.datasets import WORDS, RandomDataset
from octavo.bench.serve.request_form import PromptForm

MODEL = "smollm2"
VLLM_CLIENT = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""The package for CPUs has another name than vLLM's command looks for, so the command itself does not start."""
LATENCIES: Mapping[str, str] = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}
"""Ours → theirs."""
PERCENTILES = ("mean", "median", "P95", "P99")
FIGURES: Mapping[str, str] = {
    "output tokens/s": "output_throughput",
    "requests/s": "request_throughput",
    **{
        f"{ours.upper()} {label} ms": f"{label.lower()}_{theirs}_ms"
        for ours, theirs in LATENCIES.items()
        for label in PERCENTILES
    },
}
"""Shown → as vLLM's JSON has it."""


def main() -> None:
    arguments = parse_arguments()
    rounds: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
    with tempfile.TemporaryDirectory() as directory:
        with (Path(directory) / "server.log").open("w") as log:
            server = RunningServer(GROUPS[MODEL]["octavo"], 2, log)
        try:
            for number in range(-1, arguments.rounds):
                for client, measure in CLIENTS.items():
                    prompts = random_prompts(arguments, seed=2 * (number + 1) + (client == "vllm"))
                    figures = measure(server.url, arguments, prompts, Path(directory))
                    if number >= 0:  # the first is to warm up
                        rounds[client].append(figures)
        finally:
            server.close()
    print("\n".join(table(rounds)))
    if arguments.json:
        command = shlex.join(["python", "bench/client_check.py", *sys.argv[1:]])
        report = {"benchmark": "client-check", "rounds": rounds, **vars(arguments), **circumstances(command)}
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


def random_prompts(arguments: argparse.Namespace, seed: int) -> list[str]:
    words = RandomDataset(
        input_len=arguments.input_len, output_len=arguments.output_len, range_ratio=0.0, vocab_size=len(WORDS)
    )
    return [str(prompt.content) for prompt in words.prompts(arguments.num_prompts, PromptForm.TEXT, seed)]


def octavo_client(url: str, arguments: argparse.Namespace, prompts: Sequence[str], directory: Path) -> dict[str, float]:
    file = directory / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    options = ["--dataset", "jsonl", "--dataset-path", str(file), "--output-len", str(arguments.output_len)]
    load = ["--clients", str(arguments.clients), "--json", "-"]
    command = [sys.executable, "-m", "octavo.cli", "bench", "serve", url, *options, *load]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "output tokens/s": report["output_tokens_per_s"],
        "requests/s": report["requests_per_s"],
        **{
            f"{name.upper()} {label} ms": 1e3 * report[f"{name}_s"][label.lower()]
            for name in LATENCIES
            for label in PERCENTILES
        },
    }


def vllm_client(url: str, arguments: argparse.Namespace, prompts: Sequence[str], directory: Path) -> dict[str, float]:
    """The prompts as ShareGPT's conversations are filed: a question and an answer, which is not used."""
    file = directory / "prompts.json"
    file.write_text(json.dumps([{"conversations": [{"value": prompt}, {"value": prompt}]} for prompt in prompts]))
    options = [
        *("--backend", "openai", "--base-url", url, "--model", MODEL_NAME, "--disable-tqdm"),
        *("--tokenizer", str(CONVERTED / f"{MODEL}-bf16"), "--dataset-name", "sharegpt"),
        *("--dataset-path", str(file), "--sharegpt-output-len", str(arguments.output_len)),
        *("--num-prompts", str(arguments.num_prompts), "--max-concurrency", str(arguments.clients)),
        *("--ignore-eos", "--temperature", "0", "--percentile-metrics", "ttft,tpot,itl,e2el"),
        *("--metric-percentiles", "95,99", "--save-result", "--result-dir", str(directory)),
        *("--result-filename", "vllm.json"),
    ]
    command = [str(PEERS / "vllm" / "bin" / "python"), "-c", VLLM_CLIENT, *options]
    subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads((directory / "vllm.json").read_text())
    return {shown: report[name] for shown, name in FIGURES.items()}


CLIENTS = {"octavo": octavo_client, "vllm": vllm_client}


def table(rounds: Mapping[str, list[dict[str, float]]]) -> list[str]:
    lines = ["| | octavo bench serve | vLLM's client | ratio | spread of one client |", "|---|---|---|---|---|"]
    for name in FIGURES:
        ours, theirs = ([one[name] for one in rounds[client]] for client in ("octavo", "vllm"))
        middles = statistics.median(ours), statistics.median(theirs)
        spread = max((max(values) - min(values)) / statistics.median(values) for values in (ours, theirs))
        lines.append(
            f"| {name} | {middles[0]:,.2f} | {middles[1]:,.2f} | {middles[0] / middles[1]:.3f} | {spread:.1%} |"
        )
    return lines


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
