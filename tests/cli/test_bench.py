"""`octavo bench latency` and `throughput` from end to end, on a tiny model."""

import json
from pathlib import Path

import pytest

from .conftest import Octavo

LATENCY = ["bench", "latency", "--input-len", "16", "--output-len", "4", "--iterations", "2", "--batch-size", "2"]
THROUGHPUT = [
    "bench",
    "throughput",
    "--num-prompts",
    "5",
    "--input-len",
    "12",
    "--output-len",
    "4",
    "--range-ratio",
    "0.5",
]


def test_latency_as_json(octavo: Octavo, tiny_model: Path) -> None:
    report = json.loads(octavo(*LATENCY, str(tiny_model), "--json", "-").out)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s"):
        summary = report["summaries"][name]
        assert len(summary["samples"]) == 2
        assert 0 < summary["min"] <= report[name] <= summary["max"]
    for name in ("command", "software", "hardware", "threads", "dtype", "isa", "options"):
        assert name in report
    assert report["shape"] == {
        "input_len": 16,
        "output_len": 4,
        "batch_size": 2,
        "warmup": 1,
        "iterations": 2,
        "seed": 0,
    }
    assert report["options"]["enable_prefix_caching"] is False


def test_prefix_caching_when_asked_for(octavo: Octavo, tiny_model: Path) -> None:
    line = [*LATENCY, str(tiny_model), "--enable-prefix-caching"]
    assert "prefix caching on" in octavo(*line).out
    assert "prefix caching off" in octavo(*LATENCY, str(tiny_model)).out


def test_latency_of_one_token_has_no_decode_rate(octavo: Octavo, tiny_model: Path) -> None:
    line = ["bench", "latency", "--input-len", "8", "--output-len", "1", "--iterations", "1", str(tiny_model)]
    report = json.loads(octavo(*line, "--json", "-").out)
    assert report["decode_tokens_per_s"] is None
    assert "decode (tokens/s)" not in octavo(*line).out


def test_throughput(octavo: Octavo, tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    result = octavo(*THROUGHPUT, str(tiny_model), "--json", str(target))
    assert result.code == 0
    assert "output tokens/s" in result.out
    report = json.loads(target.read_text())
    assert report["num_requests"] == 5
    assert 5 * 6 <= report["num_input_tokens"] <= 5 * 18
    assert 5 * 2 <= report["num_output_tokens"] <= 5 * 6
    total = report["num_input_tokens"] + report["num_output_tokens"]
    assert report["total_tokens_per_s"] == pytest.approx(total / report["duration_s"])
    assert len(report["e2e_s"]["samples"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latency", "--batch-size", "3", "--max-num-seqs", "2"], "--batch-size 3 is more than --max-num-seqs 2"),
        (["latency", "--batch-size", "0"], "--batch-size"),
        (["throughput", "--range-ratio", "1"], "--range-ratio=1.0 is not in [0, 1)"),
        (["latency", "--json", "/nowhere/at/all.json"], "there is no such directory"),
    ],
)
def test_errors(octavo: Octavo, tiny_model: Path, arguments: list[str], message: str) -> None:
    result = octavo("bench", *arguments, "--model", str(tiny_model))
    assert (result.code, result.out) == (2, "")
    assert message in result.err
